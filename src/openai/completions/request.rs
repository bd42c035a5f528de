//! The body of `POST /v1/completions`, as clients send it.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::openai::Body;
use crate::openai::object::{FromKeys, keep, object};

/// A request for completions. Fields other than the prompt are read where they are used.
#[derive(Clone, Default)]
pub struct CompletionRequest {
    pub prompt: Option<Prompt>,
    pub fields: Map<String, Value>,
}

impl fmt::Debug for CompletionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionRequest").finish_non_exhaustive()
    }
}

impl Body for CompletionRequest {}

impl<'de> Deserialize<'de> for CompletionRequest {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for CompletionRequest {
    const WHAT: &'static str = "a request";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "prompt" => values.next_value().map(|prompt| self.prompt = prompt),
            _ => keep(&mut self.fields, key, values),
        }
    }
}

/// What is to be completed: one text, or several, each for itself.
#[derive(Clone, Debug)]
pub enum Prompt {
    One(String),
    Several(Vec<Piece>),
}

/// One of several prompts, if it is no token of a single one.
#[derive(Clone, Debug)]
pub enum Piece {
    Text(String),
    Tokens,
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(OneOrSeveral)
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(TextOrTokens)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = Prompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E>(self, text: &str) -> Result<Prompt, E> {
        Ok(Prompt::One(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, pieces: A) -> Result<Prompt, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(pieces)).map(Prompt::Several)
    }
}

struct TextOrTokens;

impl<'de> Visitor<'de> for TextOrTokens {
    type Value = Piece;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Piece, E> {
        Ok(Piece::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Piece, E> {
        Ok(Piece::Tokens)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Piece, A::Error> {
        while tokens.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Piece::Tokens)
    }
}
