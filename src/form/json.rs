//! An answer that is one JSON value.

use serde_json::Value;

use super::find::{self, Found};
use super::schema::{Formats, Schema};
use super::{Complaints, Error};

/// What an answer that is one JSON value must be.
#[derive(Debug)]
pub struct Json {
    /// `None`: any object.
    schema: Option<Schema>,
    name: Option<String>,
    description: Option<String>,
}

/// What a request says of the schema that it carries.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    pub name: Option<&'a str>,
    pub description: Option<&'a str>,
    /// Values must keep to `format` too.
    pub strict: Strict,
}

/// Whether a caller asked for its schema to be kept to the letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strict {
    #[default]
    No,
    Yes,
}

impl Strict {
    pub fn formats(self) -> Formats {
        match self {
            Self::Yes => Formats::Checked,
            Self::No => Formats::Told,
        }
    }
}

impl Json {
    /// Any JSON object.
    pub fn object() -> Self {
        Self {
            schema: None,
            name: None,
            description: None,
        }
    }

    /// What is valid under the schema that stands at `place` of a request.
    pub fn schema(schema: &Value, place: &str, described: Described<'_>) -> Result<Self, Error> {
        Ok(Self {
            schema: Some(Schema::new(schema, place, described.strict.formats())?),
            name: described.name.map(one_line),
            description: described.description.map(one_line),
        })
    }

    pub fn block(&self) -> String {
        let mut block = "Answer format:\n\n".to_owned();
        let Some(schema) = &self.schema else {
            block.push_str(
                "Answer with one JSON object alone: no words around it, no code fence, no \
                 comments.",
            );
            return block;
        };
        block.push_str(
            "Answer with one JSON value alone: no words around it, no code fence, no comments. ",
        );
        match (&self.name, &self.description) {
            (Some(name), Some(text)) => block.push_str(&format!("It is called {name}: {text}\n")),
            (Some(name), None) => block.push_str(&format!("It is called {name}.\n")),
            (None, Some(text)) => block.push_str(&format!("It is this: {text}\n")),
            (None, None) => block.push('\n'),
        }
        block.push_str("Make nothing up. It must be valid under this JSON Schema:\n");
        block.push_str(schema.text());
        block
    }

    pub fn reminder(&self) -> &'static str {
        match self.schema {
            Some(_) => {
                "Answer format: one JSON value alone, valid under the JSON Schema given before."
            }
            None => "Answer format: one JSON object alone.",
        }
    }

    /// The value of an answer as it was written, where it is what it must be.
    pub fn read(&self, answer: &str) -> Result<String, Complaints> {
        let found = find::values(answer);
        let mut valid = found.iter().filter(|found| self.lacks(found).is_empty());
        if let Some(first) = valid.next() {
            if valid.all(|other| other.value == first.value) {
                return Ok(first.text.to_owned());
            }
            return Err(Complaints::one(
                "the answer",
                "holds more than one JSON value",
            ));
        }
        Err(match found.as_slice() {
            [] => Complaints::one("the answer", "holds no JSON"),
            [only] => Complaints(self.lacks(only)),
            _ => Complaints::one(
                "the answer",
                "holds several JSON values, and none of them is what was asked for",
            ),
        })
    }

    fn lacks(&self, found: &Found<'_>) -> Vec<String> {
        match &self.schema {
            Some(schema) => schema.complaints(&found.value, ""),
            None if found.value.is_object() => Vec::new(),
            None => vec!["the answer: must be a JSON object".to_owned()],
        }
    }
}

/// Words of a caller's on one line, as the schema must have a line of its own.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}
