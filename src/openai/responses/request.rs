//! The body of `POST /v1/responses`, as clients send it.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::openai::Body;
use crate::openai::items::WireItem;
use crate::openai::object::{FromKeys, keep, object};

/// A request for a response. Fields other than the input are read where they are used, so that an
/// error can name them and what is ignored can be told.
#[derive(Clone, Default)]
pub struct ResponseRequest {
    pub input: Option<Input>,
    pub fields: Map<String, Value>,
}

impl fmt::Debug for ResponseRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRequest").finish_non_exhaustive()
    }
}

impl Body for ResponseRequest {}

impl<'de> Deserialize<'de> for ResponseRequest {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for ResponseRequest {
    const WHAT: &'static str = "a request";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "input" => values.next_value().map(|input| self.input = input),
            _ => keep(&mut self.fields, key, values),
        }
    }
}

/// What is asked: a string is one message of the user's.
#[derive(Clone, Debug)]
pub enum Input {
    Text(String),
    Items(Vec<WireItem>),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of items")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Input, E> {
                Ok(Input::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Input, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Input::Items)
            }
        }

        json.deserialize_any(Either)
    }
}
