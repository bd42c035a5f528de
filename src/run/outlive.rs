//! What of a turn's end outlives the process, and what is told of it then.

use super::Error;
use crate::store::record::Phase;

/// What of an error outlives the process: none of its words. `None` for errors after which the
/// turn may be sent again as if nothing had been.
pub fn phase(error: &Error) -> Option<Phase> {
    Some(match error {
        Error::OutcomeUnknown => Phase::Unknown,
        Error::Failed(_) => Phase::Failed,
        Error::Cancelled(_) => Phase::Cancelled,
        Error::Expired => Phase::Expired,
        Error::Upstream { posted: true, .. } => Phase::Garbled,
        Error::Unformed(_) => Phase::Unformed,
        Error::Internal => Phase::Broken,
        Error::Upstream { posted: false, .. }
        | Error::NoConversation(_)
        | Error::NoResponse(_)
        | Error::NotFollowable(..)
        | Error::OutOfSight(_)
        | Error::KeyReused
        | Error::TooManyWaiting
        | Error::TooManyRuns
        | Error::Overloaded
        | Error::Refused(_)
        | Error::KeyRefused(_)
        | Error::RateLimited(_)
        | Error::Unreachable
        | Error::Failing(_)
        | Error::Timeout
        | Error::ShuttingDown
        | Error::StateUnwritable => return None,
    })
}

/// The error that was told before the restart.
pub fn remembered(phase: Phase) -> Error {
    const WORDS: &str = "its words were not kept over a restart of the proxy";
    match phase {
        Phase::Failed => Error::Failed(WORDS.to_owned()),
        Phase::Cancelled => Error::Cancelled(WORDS.to_owned()),
        Phase::Expired => Error::Expired,
        Phase::Garbled => Error::Upstream {
            what: WORDS.to_owned(),
            posted: true,
        },
        Phase::Unformed => Error::Unformed(WORDS.to_owned()),
        Phase::Broken => Error::Internal,
        Phase::Unknown | Phase::Intended | Phase::Accepted | Phase::Answered(_) | Phase::Lost => {
            Error::OutcomeUnknown
        }
    }
}
