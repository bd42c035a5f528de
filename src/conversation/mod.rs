//! Which thread does this turn continue?

pub mod blocks;
pub mod call;
pub mod canonical;
pub mod fingerprint;
pub mod follow;
pub mod known;
pub mod queue;
pub mod resolve;
pub mod rolling;
pub mod salt;
pub mod side;
pub mod text;
pub mod transcript;

use std::fmt;
use std::iter::repeat_n;
use std::sync::Arc;
use std::time::Duration;

use crate::form::Form;
use crate::ids::{Handle, ResponseId, Tenant};
use crate::secret::Secret;
use known::Facts;
use salt::Salt;
use text::Text;

/// One request's share of a conversation, whichever endpoint it came in by.
#[derive(Clone)]
pub struct Turn {
    pub caller: Caller,
    /// The model's configured alias: part of what keeps conversations apart.
    pub model: String,
    /// System and developer messages, joined by a blank line.
    pub instructions: Option<String>,
    /// What the history follows on.
    pub base: Base,
    /// What lies between the base and the prompt.
    pub history: Vec<Message>,
    /// The trailing block of user and tool messages; never empty.
    pub prompt: Vec<Message>,
    pub names: Names,
    pub limits: Limits,
    /// What the answer must look like; `None` for free text.
    pub form: Option<Arc<Form>>,
    /// The turn's answer can be asked for again by this.
    pub keep: Option<Keep>,
    /// Of several answers to one request, which this is. The first, 0, is the conversation's own; the
    /// others get threads of their own.
    pub choice: u8,
    pub repeat: Repeat,
    /// When the caller is answered `run_timeout`, counted from the request.
    pub deadline: Duration,
}

impl Turn {
    /// One for each of so many answers to the same request.
    pub fn choices(self, choices: usize) -> Vec<Self> {
        let of = |(turn, choice): (Self, usize)| Self {
            choice: u8::try_from(choice).unwrap_or(u8::MAX),
            ..turn
        };
        // The last one is the turn itself: a single one costs no copy.
        repeat_n(self, choices).zip(0..).map(of).collect()
    }
}

/// What a request's history follows on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Nothing: it is the whole conversation; under a handle in delta mode, new text alone.
    #[default]
    Nothing,
    /// All that the conversation of its handle holds by now.
    Conversation,
    /// What its caller had been told with this response.
    Response(ResponseId),
}

/// What is kept of a turn whose answer can be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    pub id: ResponseId,
    /// Seconds since the epoch.
    pub created: u64,
    /// The name that the caller asked for.
    pub model: String,
    /// Nobody waits for the answer: it will be asked for.
    pub background: bool,
}

/// On whose behalf: the key that goes upstream, and the space that all records are kept under.
#[derive(Clone)]
pub struct Caller {
    pub tenant: Tenant,
    /// By which the upstream counts: its calls are paced, and slowed down, together.
    pub account: Tenant,
    pub key: Secret,
}

impl Caller {
    /// Whoever presents this upstream key.
    pub fn of_key(salt: &Salt, key: Secret) -> Self {
        let tenant = salt.tenant_of_key(key.expose());
        Self {
            tenant,
            account: tenant,
            key,
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("caller", &self.caller)
            .field("history", &self.history.len())
            .field("prompt", &self.prompt.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

/// One message of a caller's history, as far as identity and posting need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    /// The text parts, joined by line ends.
    pub text: Text,
    /// Calls that an assistant message made.
    pub calls: Vec<ToolCall>,
    /// Of a tool message: the call that it answers.
    pub answers: Option<String>,
    /// SHA-256 of every part that is not text.
    pub parts: Vec<[u8; 32]>,
}

impl Message {
    /// One of plain text.
    pub fn said(role: Role, text: impl Into<Text>) -> Self {
        Self {
            role,
            text: text.into(),
            calls: Vec::new(),
            answers: None,
            parts: Vec::new(),
        }
    }

    /// Whether it is nothing but text, said by someone.
    pub fn is_plain(&self) -> bool {
        self.role != Role::Tool
            && self.calls.is_empty()
            && self.answers.is_none()
            && self.parts.is_empty()
    }

    /// What is known of it already.
    pub fn facts(&self) -> Option<&Facts> {
        let facts = self.text.facts()?;
        (self.is_plain() && self.role == facts.role).then_some(facts)
    }
}

/// Who speaks. System and developer messages are instructions, not messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    User,
    Assistant,
    Tool,
}

/// A call of a tool, as an assistant message carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// As text; compared as JSON where it is JSON.
    pub arguments: String,
}

/// What a request says, outside its messages, of the conversation it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The caller's name for its conversation.
    pub handle: Option<Handle>,
    /// A chat program's own id for the chat: narrows the choice of thread and says that the
    /// request is the whole history.
    pub narrow: Option<String>,
    /// User ids, in a fixed order.
    pub users: Vec<String>,
    /// What the chat program says this side call of its own is for, where it marks them.
    pub side_call: Option<String>,
}

/// Where the answer is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Cut before the first of these.
    pub stop: Vec<String>,
    /// In tokens, by the estimate that `usage` reports.
    pub max_tokens: Option<u64>,
}

/// What says whether a request is one that came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// A keyed hash of the route and the body without insignificant white space.
    pub body: [u8; 32],
    pub idempotency_key: Option<String>,
    /// The caller says that it has sent this request before.
    pub marked: bool,
}

/// How a turn finds its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The same request is under way, or its answer was never delivered.
    Attached,
    /// The prompt alone is posted on the thread that holds the history.
    Appended,
    /// No history: instructions and prompt begin a thread.
    Created,
    /// The history is known but is no longer a tip: transcript and prompt begin a thread.
    Forked,
    /// The history is unknown, or its thread is lost: transcript and prompt begin a thread.
    Replayed,
    /// A chat program's own side call: nothing is posted.
    Local,
}

impl Decision {
    pub const ALL: [Self; 6] = [
        Self::Attached,
        Self::Appended,
        Self::Created,
        Self::Forked,
        Self::Replayed,
        Self::Local,
    ];

    /// Of an answer that is not its request's first: it begins a thread of its own.
    pub fn of_choice(turn: &Turn) -> Self {
        if turn.history.is_empty() {
            Self::Created
        } else {
            Self::Forked
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Appended => "appended",
            Self::Created => "created",
            Self::Forked => "forked",
            Self::Replayed => "replayed",
            Self::Local => "local",
        }
    }
}

/// What a dry run tells: the decision, and the text that would be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub conversation: Handle,
    pub decision: Decision,
    /// `None` where nothing would be posted.
    pub posts: Option<String>,
}
