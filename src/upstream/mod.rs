//! The service behind us, as this program needs it: post a message, read a thread.

pub mod chaturdata;
mod client;
pub mod gzip;
pub mod sandbox;
pub mod wire;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::secret::Secret;

/// A call under way.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The two calls that Chat Ur Data offers.
pub trait Upstream: Send + Sync + fmt::Debug + 'static {
    /// Adds a message to a thread, or begins a thread with it. Not idempotent.
    fn post<'a>(
        &'a self,
        key: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>>;

    /// Reads a thread and the status of its newest run.
    fn read<'a>(
        &'a self,
        key: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>>;
}

/// The upstream's name for a thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ThreadId(pub Arc<str>);

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message to post: on `thread`, or on a new one.
#[derive(Clone)]
pub struct NewMessage {
    pub thread: Option<ThreadId>,
    pub text: String,
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage")
            .field("thread", &self.thread)
            .field("bytes", &self.text.len())
            .finish()
    }
}

/// What the upstream says of a message that it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    pub thread: ThreadId,
    /// `None` where the answer has no status that can be read.
    pub status: Option<RunStatus>,
    /// The words of a run that failed at once.
    pub failure: Option<String>,
}

/// A thread as one read shows it: perhaps only its newest messages, in an order that is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// In the order received.
    pub messages: Vec<Message>,
    /// Of the newest run that the upstream knows of; `None` where it is missing.
    pub status: Option<RunStatus>,
    /// Why the run failed, in the upstream's words.
    pub failure: Option<String>,
}

/// One message of a thread. Whatever is not text has been put into words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub id: Option<String>,
    pub role: Option<Role>,
    /// Seconds since the epoch.
    pub created_at: Option<f64>,
    pub text: String,
    pub annotations: Vec<Annotation>,
}

/// Who wrote a message of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
}

/// A source that a stretch of text names, in characters from the beginning of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    pub start: usize,
    pub end: usize,
    pub url: String,
    pub title: String,
}

/// The status of a run. Whatever is not an ending is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    Pending,
    Completed,
    /// Ended early, with what text there is.
    Incomplete,
    Expired,
    Cancelled,
    Failed,
}

/// Why a POST gave no thread, by what is known of the message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PostError {
    /// No byte of the request left: the message is not posted, and a resend is safe.
    #[error("the upstream could not be reached: {0}")]
    Unsent(String),
    /// The upstream's certificate does not hold: not posted, and a resend would not help.
    #[error("the upstream's certificate was refused: {0}")]
    Certificate(String),
    /// Not sent by us: the upstream has been failing, and is tried again after so long.
    #[error("the upstream has been failing")]
    Failing(Duration),
    /// Not sent by us: no connection was free in time.
    #[error("too many calls are in flight")]
    Crowded,
    /// The upstream said no: the message is not posted.
    #[error("the upstream refused the message with status {}", .0.status)]
    Refused(Refusal),
    /// Anything else: the message may be posted, or may be posted yet.
    #[error("it is not known whether the upstream took the message: {0}")]
    Unknown(String),
}

/// A refusal of a POST, in the upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub words: String,
}

/// What a busy upstream says to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// `None` where it is we who have no room for the read.
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
}

impl Busy {
    pub const HERE: Self = Self {
        status: None,
        retry_after: None,
    };
}

/// Why a read gave no thread.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// 401 or 403.
    #[error("the upstream refused the key with status {0}")]
    KeyRefused(u16),
    #[error("the upstream has no such thread")]
    NoThread,
    /// 429 or 503: wait, and slow down every call with this key.
    #[error("the upstream is busy")]
    Busy(Busy),
    /// Anything that may pass: resets, timeouts, other statuses, bodies that cannot be read.
    #[error("the upstream could not be read: {0}")]
    Passing(String),
}
