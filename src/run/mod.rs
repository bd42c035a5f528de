//! One turn carried out on one thread: post the message, poll, report what happens.

pub mod answer;
pub mod apart;
pub mod ask;
pub mod audience;
pub mod base;
pub mod baseline;
pub mod breaker;
pub mod budget;
pub mod callers;
pub mod calls;
pub mod carry;
pub mod choice;
pub mod clip;
mod counted;
pub mod ending;
pub mod growth;
pub mod items;
pub mod ledger;
pub mod listing;
pub mod live;
pub mod mend;
pub mod notes;
pub mod outlive;
pub mod pace;
pub mod places;
pub mod poll;
pub mod post;
pub mod progress;
pub mod recall;
pub mod replay;
pub mod responses;
pub mod restart;
pub mod resume;
pub mod retelling;
pub mod share;
mod stage;
pub mod stagger;
pub mod subscription;
pub mod tokens;
pub mod wake;
pub mod watched;

use std::sync::Arc;
use std::time::Duration;

use self::share::Full;
use crate::conversation::resolve::{Resolved, Unresolved};
use crate::conversation::{Decision, ToolCall};
use crate::ids::Handle;
use crate::upstream::Annotation;

/// What a run reports to each of its callers, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// The upstream has the message.
    Accepted,
    /// The answer grew by this text, which will not change.
    Text(String),
    /// The rest of the answer has come: the whole of it, for those who want it at once.
    Completed(Arc<Answer>),
    /// Nothing more comes.
    Failed(Error),
}

/// The new assistant text, cut as the caller asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub text: String,
    /// Calls of the caller's functions; then there is no text.
    pub calls: Vec<ToolCall>,
    pub finish: Finish,
    pub annotations: Vec<Annotation>,
}

impl Answer {
    /// The sources of what is left of the text: a cut may have taken the place of some.
    pub fn sources(&self) -> impl Iterator<Item = &Annotation> {
        let end = self.text.chars().count();
        self.annotations
            .iter()
            .filter(move |source| source.end <= end)
    }
}

/// Why an answer ends where it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// The run completed, or a stop sequence was met.
    #[default]
    Stop,
    /// The caller's `max_tokens` were used up, or the upstream ended the run early.
    Length,
    /// It calls functions of the caller's.
    Calls,
}

/// Where a turn stands among conversations; told with every answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The caller's handle, or the id made here.
    pub conversation: Handle,
    pub decision: Decision,
    /// An `Idempotency-Key` brings back how its turn ended before.
    pub is_replay: bool,
}

impl Place {
    pub fn at(resolved: &Resolved) -> Self {
        Self {
            conversation: resolved.conversation.clone(),
            decision: resolved.decision,
            is_replay: false,
        }
    }
}

/// Why a turn has no answer. One variant for each thing that a caller is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "there is no conversation {0} here, and the request carries no history to begin it anew"
    )]
    NoConversation(String),
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    #[error("too many requests wait for this conversation")]
    TooManyWaiting,
    /// The tenant has its share of all runs.
    #[error("too many runs of this key are under way")]
    TooManyRuns,
    /// There are as many runs, or calls of the upstream, as there may be.
    #[error("the proxy has as much to do as it can bear")]
    Overloaded,
    /// The upstream refused the message itself (400, 413, 422).
    #[error("the upstream refused the message: {0}")]
    Refused(String),
    /// The upstream refused the key (401 or 403, in the field).
    #[error("the upstream refused the key with status {0}")]
    KeyRefused(u16),
    #[error("the upstream takes no more requests at the moment")]
    RateLimited(Option<Duration>),
    #[error("the upstream could not be reached")]
    Unreachable,
    /// It has been failing, so nothing was sent; it is tried again after so long.
    #[error("the upstream has been failing; nothing was sent")]
    Failing(Duration),
    #[error("it is not known whether the upstream took the message; it was not sent again")]
    OutcomeUnknown,
    /// The upstream answered with nonsense, before or after it took the message.
    #[error("the upstream gave no usable answer: {what}")]
    Upstream { what: String, posted: bool },
    /// The answer is not what was asked for, and could not be mended; in the checker's words.
    #[error("the answer is not in the form that was asked for: {0}")]
    Unformed(String),
    /// No response of the tenant has this id.
    #[error("there is no response {0} here")]
    NoResponse(String),
    /// A response has no answer that a request could follow on.
    #[error("nothing can follow on the response {0}: it {1}")]
    NotFollowable(String, &'static str),
    /// How a conversation went on up to a response is not shown any more.
    #[error(
        "the conversation has gone on too far after the response {0} to begin again there; send the \
         earlier messages themselves as input"
    )]
    OutOfSight(String),
    /// The run failed, in the upstream's words.
    #[error("the run failed: {0}")]
    Failed(String),
    #[error("the run was cancelled: {0}")]
    Cancelled(String),
    #[error("the run expired")]
    Expired,
    /// The caller's deadline passed; the run goes on.
    #[error("the answer has not come yet; send the same request again to collect it")]
    Timeout,
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// Under `store.strict`: the message was not posted.
    #[error("the proxy cannot write down what it is about to do, so it did not do it")]
    StateUnwritable,
    #[error("the turn ended by a fault of the proxy")]
    Internal,
}

impl Error {
    /// Whether the upstream holds the message and it will not end better: the caller must not
    /// send it again by itself.
    pub fn stands(&self) -> bool {
        match self {
            Self::OutcomeUnknown
            | Self::Failed(_)
            | Self::Cancelled(_)
            | Self::Expired
            | Self::Unformed(_)
            | Self::Internal => true,
            Self::Upstream { posted, .. } => *posted,
            Self::NoConversation(_)
            | Self::NoResponse(_)
            | Self::NotFollowable(..)
            | Self::OutOfSight(_)
            | Self::KeyReused
            | Self::TooManyWaiting
            | Self::TooManyRuns
            | Self::Overloaded
            | Self::Refused(_)
            | Self::KeyRefused(_)
            | Self::RateLimited(_)
            | Self::Unreachable
            | Self::Failing(_)
            | Self::Timeout
            | Self::ShuttingDown
            | Self::StateUnwritable => false,
        }
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        match full {
            Full::Tenant => Self::TooManyRuns,
            Full::All => Self::Overloaded,
        }
    }
}

impl From<Unresolved> for Error {
    fn from(unresolved: Unresolved) -> Self {
        match unresolved {
            Unresolved::NoConversation(handle) => Self::NoConversation(handle.to_string()),
            Unresolved::NoResponse(id) => Self::NoResponse(id.to_string()),
            Unresolved::TooManyWaiting(_) => Self::TooManyWaiting,
        }
    }
}
