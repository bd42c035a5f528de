//! What an answer must look like where free text will not do: JSON, or calls of the caller's functions.
//!
//! The upstream knows neither. Both are asked for in words behind the prompt, read off the answer,
//! and checked.

mod calls;
mod find;
mod json;
mod schema;
#[cfg(test)]
mod tests;
mod tools;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::json::{Described, Json, Strict};
pub use self::tools::{Choice, Function, MOST as MOST_FUNCTIONS, Several, Tools};

/// What an answer must look like.
pub struct Form {
    json: Option<Json>,
    tools: Option<Tools>,
    block: String,
    reminder: String,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form")
            .field("kind", &self.kind())
            .finish_non_exhaustive()
    }
}

/// The kinds of form. This much outlives the process; schemas are text, and do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Free text.
    Text,
    Json,
    /// Calls of functions, or free text.
    Calls,
    /// Calls of functions, or JSON.
    JsonOrCalls,
}

/// What was read off an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Free text, as the upstream wrote it.
    Text,
    /// One JSON value, bare.
    Json(String),
    Calls(Vec<Call>),
}

/// A call of one of the caller's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// A JSON object, as text.
    pub arguments: String,
}

/// Why an answer is not what was asked for: what the caller, and the upstream, are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaints(pub Vec<String>);

/// What is wrong with a form that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} {what}")]
pub struct Error {
    /// Where in the request.
    pub place: String,
    pub what: String,
}

/// Said on a thread that knows a form, behind a prompt that wants none.
pub const WITHDRAWN: &str =
    "The answer format and the functions that were named earlier no longer apply.";

/// An answer is told as many faults at once.
const MOST_COMPLAINTS: usize = 3;
const LONGEST_COMPLAINT: usize = 200;

/// The longest question and answer that a mending message repeats, in bytes.
const LONGEST_QUOTE: usize = 64 * 1024;

impl Form {
    /// One JSON value.
    pub fn json(json: Json) -> Self {
        Self {
            block: json.block(),
            reminder: json.reminder().to_owned(),
            json: Some(json),
            tools: None,
        }
    }

    /// Calls of functions, or else free text.
    pub fn tools(tools: Tools) -> Self {
        const OTHERWISE: &str = "Where no function is needed, answer in words as ever.";
        Self {
            block: tools.block(OTHERWISE),
            reminder: tools.reminder(OTHERWISE),
            json: None,
            tools: Some(tools),
        }
    }

    /// Calls of functions, or else one JSON value. Where calls are demanded, JSON is not to be had.
    pub fn tools_or_json(tools: Tools, json: Json) -> Self {
        const OTHERWISE: &str =
            "Where no function is needed, or any more, answer in the format that follows.";
        if tools.are_demanded() {
            return Self::tools(tools);
        }
        Self {
            block: format!("{}\n\n{}", tools.block(OTHERWISE), json.block()),
            reminder: format!("{}\n\n{}", tools.reminder(OTHERWISE), json.reminder()),
            json: Some(json),
            tools: Some(tools),
        }
    }

    pub fn kind(&self) -> Kind {
        match (&self.json, &self.tools) {
            (Some(_), Some(_)) => Kind::JsonOrCalls,
            (Some(_), None) => Kind::Json,
            (None, Some(_)) => Kind::Calls,
            (None, None) => Kind::Text,
        }
    }

    /// What is said behind the prompt on a thread that does not know this form yet.
    pub fn block(&self) -> &str {
        &self.block
    }

    /// What is said behind the prompt on a thread that knows this form.
    pub fn reminder(&self) -> &str {
        &self.reminder
    }

    /// Reads an answer, and checks it.
    pub fn read(&self, answer: &str) -> Result<Content, Complaints> {
        if let Some(tools) = &self.tools
            && let Some(calls) = tools.read(answer)?
        {
            return Ok(Content::Calls(calls));
        }
        let read = match &self.json {
            Some(json) => json.read(answer).map(Content::Json),
            None => Ok(Content::Text),
        };
        let is_json = matches!(read, Ok(Content::Json(_)));
        match &self.tools {
            Some(tools) if !is_json => tools.doubt(answer).map_or(read, Err),
            _ => read,
        }
    }

    /// What is posted, on a thread of its own, to have the answer to a question mended.
    pub fn mend(&self, question: &str, answer: &str, complaints: &Complaints) -> String {
        let faults: Vec<String> = complaints.0.iter().map(|c| format!("- {c}")).collect();
        format!(
            "Mend this answer\n\nThe answer below is not in the form that was asked for. Write it \
             again in that form. Keep what it says, and make nothing up.\n\nWhat is wrong with \
             it:\n{}\n\nThe question was:\n\n{}\n\nThe answer was:\n\n{}\n\n---\n\n{}",
            faults.join("\n"),
            quoted(question),
            quoted(answer),
            self.block
        )
    }
}

impl Kind {
    /// Reads an answer that has been checked before, where it can be read one way only.
    pub fn read(self, answer: &str) -> Option<Content> {
        let mut readings = self.readings(answer).into_iter();
        readings.next().filter(|_| readings.next().is_none())
    }

    /// All ways to read an answer that has been checked before: which value was meant can depend on
    /// the schema.
    pub fn readings(self, answer: &str) -> Vec<Content> {
        if matches!(self, Self::Calls | Self::JsonOrCalls)
            && let calls::Shape::Calls(called) = calls::shape(answer)
        {
            let calls = called.iter().map(calls::Called::call).collect();
            return vec![Content::Calls(calls)];
        }
        match self {
            Self::Text | Self::Calls => vec![Content::Text],
            Self::Json | Self::JsonOrCalls => {
                let found = find::values(answer).into_iter();
                found
                    .map(|found| Content::Json(found.text.to_owned()))
                    .collect()
            }
        }
    }
}

impl Complaints {
    fn one(place: &str, what: &str) -> Self {
        Self(vec![complaint(place, what)])
    }

    fn new(mut complaints: Vec<String>) -> Self {
        complaints.truncate(MOST_COMPLAINTS);
        Self(complaints)
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Error {
    fn at(place: &str, what: &str) -> Self {
        Self {
            place: shortened(place, LONGEST_COMPLAINT),
            what: shortened(what, LONGEST_COMPLAINT),
        }
    }
}

fn complaint(place: &str, what: &str) -> String {
    shortened(&format!("{place}: {what}"), LONGEST_COMPLAINT)
}

/// A text of at most so many characters, on one line.
fn shortened(text: &str, most: usize) -> String {
    const MARK: &str = "...";
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let kept = text.chars().take(most.saturating_sub(MARK.len()));
    kept.map(plain).chain(MARK.chars()).collect()
}

fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.len() <= LONGEST_QUOTE {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST_QUOTE);
    let kept = text.get(..end).unwrap_or_default();
    format!("{kept}\n[the rest is left out]")
}
