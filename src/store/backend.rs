//! Where records outlive the process: a few raw verbs, the same for every kind of store.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    Branches,
    Handles,
    Turns,
    Conversations,
    /// A state of an earlier version may have none.
    Paces,
    /// Earlier tips of branches: all but the newest. Only since the fifth version.
    Passed,
}

impl Table {
    /// In the order by which journals number them: others go behind.
    pub const ALL: [Self; 6] = [
        Self::Branches,
        Self::Handles,
        Self::Turns,
        Self::Conversations,
        Self::Paces,
        Self::Passed,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Branches => "branches",
            Self::Handles => "handles",
            Self::Turns => "turns",
            Self::Conversations => "conversations",
            Self::Paces => "paces",
            Self::Passed => "passed",
        }
    }
}

/// How old the first of what is queued may become before it is written, where nobody is in a hurry: a write
/// holds up what is queued while it lasts.
pub const UNHURRIED: Duration = Duration::from_millis(25);

/// One record put in its place; without a value, taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// What was queued may not outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state cannot be written")]
pub struct Unwritten;

/// Ready once all that was queued before is durable.
pub type Flushed<'a> = Pin<Box<dyn Future<Output = Result<(), Unwritten>> + Send + 'a>>;

/// Takes records in their order: after a crash, what is there is what was queued up to some point,
/// which is never within a unit, and never before the last [`Flushed`] that was ready.
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Queues records as one unit, behind all that were queued before. Never waits.
    fn queue(&self, unit: Vec<Write>);

    /// Has everything queued so far written, and waits for it.
    fn flushed(&self) -> Flushed<'_>;

    /// Waits for the same, and is in no hurry: it is about [`UNHURRIED`] later, or sooner where others have it
    /// written.
    fn flushed_unhurried(&self) -> Flushed<'_> {
        Box::pin(async {
            sleep(UNHURRIED).await;
            self.flushed().await
        })
    }

    /// Whether anything is written at all: what nobody keeps need not be worded.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether writing has failed, and nothing is written any more, or is about to: what is under way
    /// is still written, as far as there is space.
    fn is_degraded(&self) -> bool;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Backend for Nowhere {
    fn queue(&self, _: Vec<Write>) {}

    fn flushed(&self) -> Flushed<'_> {
        Box::pin(ready(Ok(())))
    }

    fn flushed_unhurried(&self) -> Flushed<'_> {
        Box::pin(ready(Ok(())))
    }

    fn keeps(&self) -> bool {
        false
    }

    fn is_degraded(&self) -> bool {
        false
    }
}
