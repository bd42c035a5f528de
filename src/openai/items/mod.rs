//! Items: the messages, calls and outputs of calls that responses and conversations are made of.

mod id;
mod request;

use serde::{Deserialize, Serialize};

pub use id::{Ids, ItemId, LEADS, Side};
pub use request::{Heard, WireItem, push};

use super::messages::{Author, Entry};
use crate::conversation::{Role, ToolCall};
use crate::run::Answer;
use crate::upstream::Annotation;

/// An item as it is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    missing_debug_implementations,
    reason = "it would show what callers say"
)]
pub enum Item {
    Message {
        id: String,
        status: Status,
        role: Speaker,
        content: Vec<Part>,
    },
    FunctionCall {
        id: String,
        call_id: String,
        name: String,
        arguments: String,
        status: Status,
    },
    FunctionCallOutput {
        id: String,
        call_id: String,
        output: String,
        status: Status,
    },
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    System,
    Developer,
    User,
    Assistant,
}

/// How far an item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    InProgress,
    Completed,
    Incomplete,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    missing_debug_implementations,
    reason = "it would show what callers say"
)]
pub enum Part {
    InputText {
        text: String,
    },
    OutputText {
        text: String,
        annotations: Vec<Citation>,
        /// The upstream tells no probabilities.
        logprobs: [(); 0],
    },
}

/// A source that a text names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "url_citation")]
pub struct Citation {
    start_index: usize,
    end_index: usize,
    url: String,
    title: String,
}

impl Item {
    pub fn id(&self) -> &str {
        match self {
            Self::Message { id, .. }
            | Self::FunctionCall { id, .. }
            | Self::FunctionCallOutput { id, .. } => id,
        }
    }

    /// The items that say what an entry says.
    pub fn of(entry: &Entry, ids: &mut Ids) -> Vec<Self> {
        let message = match entry {
            Entry::Instructions(author, text) => {
                let speaker = match author {
                    Author::System => Speaker::System,
                    Author::Developer => Speaker::Developer,
                };
                return vec![Self::said(speaker, text, ids)];
            }
            Entry::Said(message) => message,
        };
        match message.role {
            Role::User => vec![Self::said(Speaker::User, &message.text, ids)],
            Role::Tool => vec![Self::FunctionCallOutput {
                id: ids.next("fco_"),
                call_id: message.answers.clone().unwrap_or_default(),
                output: message.text.to_string(),
                status: Status::Completed,
            }],
            Role::Assistant => {
                let is_silent = message.text.is_empty() && !message.calls.is_empty();
                let text = (!is_silent).then(|| {
                    let part = Part::output(&message.text, Vec::new());
                    Self::message(ids.next("msg_"), Status::Completed, vec![part])
                });
                let text: Vec<Self> = text.into_iter().collect();
                let calls = message.calls.iter().map(|call| Self::call(call, ids));
                text.into_iter().chain(calls).collect()
            }
        }
    }

    fn said(role: Speaker, text: &str, ids: &mut Ids) -> Self {
        Self::Message {
            id: ids.next("msg_"),
            status: Status::Completed,
            role,
            content: vec![Part::InputText {
                text: text.to_owned(),
            }],
        }
    }

    /// As it is told before it says anything.
    pub fn begun(&self) -> Self {
        let mut begun = self.clone();
        match &mut begun {
            Self::Message {
                status, content, ..
            } => {
                *status = Status::InProgress;
                content.clear();
            }
            Self::FunctionCall {
                status, arguments, ..
            } => {
                *status = Status::InProgress;
                arguments.clear();
            }
            Self::FunctionCallOutput { status, .. } => *status = Status::InProgress,
        }
        begun
    }

    /// A message of the assistant's.
    pub fn message(id: String, status: Status, content: Vec<Part>) -> Self {
        Self::Message {
            id,
            status,
            role: Speaker::Assistant,
            content,
        }
    }

    pub fn call(call: &ToolCall, ids: &mut Ids) -> Self {
        Self::FunctionCall {
            id: ids.next("fc_"),
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
            status: Status::Completed,
        }
    }
}

impl Part {
    pub fn output(text: &str, annotations: Vec<Citation>) -> Self {
        Self::OutputText {
            text: text.to_owned(),
            annotations,
            logprobs: [],
        }
    }
}

impl Citation {
    pub fn all(answer: &Answer) -> Vec<Self> {
        answer.sources().map(Self::of).collect()
    }

    fn of(source: &Annotation) -> Self {
        Self {
            start_index: source.start,
            end_index: source.end,
            url: source.url.clone(),
            title: source.title.clone(),
        }
    }
}
