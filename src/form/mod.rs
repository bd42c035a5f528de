//! What an answer must look like where free text will not do: JSON, or calls of the caller's functions.
//!
//! The upstream knows neither. Both are asked for in words behind the prompt, read off the answer,
//! and checked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an answer must look like.
pub struct Form {
    kind: Kind,
    block: String,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form")
            .field("kind", &self.kind)
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

/// Said on a thread that knows a form, behind a prompt that wants none.
pub const WITHDRAWN: &str =
    "The answer format and the functions that were named earlier no longer apply.";

impl Form {
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is said behind the prompt on a thread that does not know this form yet.
    pub fn block(&self) -> &str {
        &self.block
    }

    /// What is said behind the prompt on a thread that knows this form.
    pub fn reminder(&self) -> &str {
        &self.block
    }

    /// Reads an answer, and checks it.
    pub fn read(&self, answer: &str) -> Result<Content, Complaints> {
        self.kind
            .read(answer)
            .ok_or_else(|| Complaints(vec!["there is no JSON in it".to_owned()]))
    }

    /// What is posted, on a thread of its own, to have an answer mended.
    pub fn mend(&self, answer: &str, complaints: &Complaints) -> String {
        format!(
            "Mend this answer\n\n{answer}\n\n{}\n\n{}",
            complaints.0.join("\n"),
            self.block
        )
    }
}

impl Kind {
    /// Reads an answer that has been checked before.
    pub fn read(self, _answer: &str) -> Option<Content> {
        match self {
            Self::Text => Some(Content::Text),
            Self::Json | Self::Calls | Self::JsonOrCalls => None,
        }
    }
}
