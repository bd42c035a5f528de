//! The OpenAI wire as values: a request becomes a turn, what a run reports becomes a body or frames.

mod basis;
pub mod chat;
mod choices;
pub mod completions;
mod content;
pub mod conversations;
mod fields;
pub mod forms;
pub mod items;
pub mod list;
pub mod messages;
pub mod metadata;
pub mod models;
pub mod names;
mod object;
pub mod outline;
pub mod params;
pub mod render;
pub mod responses;
pub mod usage;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::config::AutoTools;
use crate::conversation::Caller;
use crate::conversation::known::KnownOf;
use crate::form;
use outline::Outline;

/// The body of a request.
pub trait Body: DeserializeOwned {
    /// The field that lists what was said before.
    const LIST: Option<&str> = None;

    /// The request, without reading again what is known; `None` where all of it must be read.
    fn of_known(_body: &Bytes, _list: Outline, _known: &KnownOf) -> Option<Self> {
        None
    }
}

/// What a request says outside its body; the server reads it off the head.
#[derive(Clone)]
pub struct Envelope {
    pub caller: Caller,
    /// `X-Conversation-Id`.
    pub handle: Option<String>,
    /// The first narrowing header that is there.
    pub narrow: Option<String>,
    /// Values of the user-id headers.
    pub users: Vec<String>,
    /// The value of a header that marks a chat program's side call.
    pub side_call: Option<String>,
    pub idempotency_key: Option<String>,
    /// `x-stainless-retry-count` above 0.
    pub marked: bool,
    /// `x-stainless-read-timeout`, where it is 2 s or more.
    pub patience: Option<Duration>,
    /// `X-Request-Timeout`, or the configured deadline.
    pub deadline: Duration,
    /// A keyed hash of the route and the body without insignificant white space.
    pub body: [u8; 32],
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("marked", &self.marked)
            .field("patience", &self.patience)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Envelope {
    /// Of a request whose head says nothing.
    pub fn bare() -> Self {
        use crate::ids::Tenant;
        use crate::secret::Secret;
        Self {
            caller: Caller {
                tenant: Tenant([0; 32]),
                account: Tenant([0; 32]),
                key: Secret::new("placeholder"),
            },
            handle: None,
            narrow: None,
            users: Vec::new(),
            side_call: None,
            idempotency_key: None,
            marked: false,
            patience: None,
            deadline: Duration::from_secs(590),
            body: [0; 32],
        }
    }
}

/// What the configuration says of requests.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The model names that are listed.
    pub aliases: Vec<String>,
    /// Other model names are unknown.
    pub strict_models: bool,
    /// What would be ignored is refused.
    pub strict_parameters: bool,
    /// What becomes of tools that need not be called.
    pub auto_tools: AutoTools,
}

/// What an answer says of itself, minted once per request.
#[derive(Clone, Debug)]
pub struct Head {
    /// `chatcmpl-` and 32 hex digits.
    pub id: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// The name the caller asked for.
    pub model: String,
}

/// Why a request cannot be served as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub reason: Reason,
    pub message: String,
    /// The field, as a path: `messages[0].content`.
    pub param: Option<String>,
}

impl Error {
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: Reason::InvalidValue,
            message: message.into(),
            param: Some(param.into()),
        }
    }

    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: Reason::Unsupported,
            message: message.into(),
            param: Some(param.into()),
        }
    }
}

impl From<form::Error> for Error {
    fn from(error: form::Error) -> Self {
        let message = error.to_string();
        Self::invalid(error.place, message)
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Wrong shape, or a value that cannot be used.
    InvalidValue,
    /// Understood, and not to be had here.
    Unsupported,
    UnknownModel,
    /// No response of anybody's can have this id.
    UnknownResponse,
}
