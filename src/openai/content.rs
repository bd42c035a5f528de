//! What a message says, as clients write it: text or parts, and where in the request it stands.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Error;
use super::object::{FromKeys, object, skip};

/// What a message says: the same text may come either way.
#[derive(Clone, Debug)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }

        json.deserialize_any(Either)
    }
}

/// One part of a message's content.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub kind: Option<String>,
    /// The text of a text part, or of a refusal.
    pub text: Option<String>,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for Part {
    const WHAT: &'static str = "a part";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = values.next_value()?,
            // A part of a kind that is not known may keep anything here.
            "text" | "refusal" => {
                if let Value::String(text) = values.next_value()? {
                    self.text = Some(text);
                }
            }
            _ => skip(values)?,
        }
        Ok(())
    }
}

/// Where a message or an item stands in the request: `messages[3]`.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub list: &'static str,
    pub index: usize,
}

impl Place {
    /// The path of a field there.
    pub fn of(self, field: &str) -> String {
        format!("{self}.{field}")
    }

    /// The text in a field, its parts joined by line ends.
    pub fn text(self, field: &str, content: Option<Content>) -> Result<Option<String>, Error> {
        let parts = match content {
            None => return Ok(None),
            Some(Content::Text(text)) => return Ok(Some(text)),
            Some(Content::Parts(parts)) => parts,
        };
        let mut texts = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            texts.push(part.into_text(|| self.of(&format!("{field}[{index}]")))?);
        }
        Ok(Some(texts.join("\n")))
    }

    /// The text in a field that must be there.
    pub fn needed(self, field: &str, content: Option<Content>) -> Result<String, Error> {
        self.text(field, content)?.ok_or_else(|| {
            let path = self.of(field);
            let message = format!("{path} must be a string or an array of parts");
            Error::invalid(path, message)
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.index)
    }
}

impl Part {
    fn into_text(self, path: impl FnOnce() -> String) -> Result<String, Error> {
        let Some(kind) = self.kind.as_deref() else {
            let path = path();
            let message = format!("{path} must have a type");
            return Err(Error::invalid(path, message));
        };
        let why = match kind {
            "text" | "refusal" | "input_text" | "output_text" => {
                return self.text.ok_or_else(|| {
                    let path = path();
                    let message = format!("{path} must have its text as a string");
                    Error::invalid(path, message)
                });
            }
            "image_url" | "input_image" | "input_audio" | "file" | "input_file" => {
                "is not text: images, audio and files cannot be sent to the upstream"
            }
            _ => "is of a type that is not known here; text parts are",
        };
        let path = path();
        let message = format!("{path} {why}");
        Err(Error::unsupported(path, message))
    }
}
