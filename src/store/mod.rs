//! What is remembered of conversations: ids, hashes and times, never text.

pub mod backend;
pub mod callers;
pub mod conversations;
pub mod disk;
pub mod memory;
pub mod paces;
mod passed;
mod private;
pub mod record;
mod restored;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, Fingerprint, Handle, Short, Tenant, cut};
use crate::upstream::ThreadId;

pub use memory::{Bounds, Slot, Store};
pub use passed::Passed;
pub use restored::Restored;

/// How many of a branch's last messages are known by their short hashes.
pub const WINDOW: usize = 64;

/// How many of a branch's earlier tips are kept matchable.
pub const PASSED: usize = 256;

/// A branch's own id, unique in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchId(pub u64);

/// One path of visible transcript, and the thread that holds it.
#[derive(Clone, Debug)]
pub struct Branch {
    pub tenant: Tenant,
    /// Every name that has led here. The last is the one that callers are told.
    pub handles: Vec<Handle>,
    pub narrow: Option<String>,
    /// `None` until the upstream has accepted the first message.
    pub thread: Option<ThreadId>,
    /// The transcript that the thread holds.
    pub tip: Fingerprint,
    /// Short hashes of the transcript's last messages, oldest first, for callers that send a window.
    pub window: VecDeque<Short>,
    pub instructions: Digest,
    pub state: State,
    /// What our last read of the thread ended with.
    pub seen: Option<Seen>,
    pub passed: Passed,
    /// Remembered by an earlier process, perhaps from before others wrote: the thread is read before
    /// it is posted to.
    pub doubted: bool,
    /// The branch that this one has replaced without being told its history: until a turn ends here,
    /// that one holds the conversation.
    pub origin: Option<BranchId>,
    /// The conversation that had this as another answer than its first: who goes on with it does so under
    /// that name. Not written down.
    pub beside: Option<Handle>,
    /// Of what the thread was told of the form of answers, if it is to hold for the next.
    pub form: Option<Digest>,
}

/// Whether a branch's thread may be posted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// Its first message was never accepted: there is nothing to continue.
    Unborn,
    /// Never posted to again: a run failed in it, a stranger wrote in it, the upstream lost it, or
    /// a lost message may yet arrive in it.
    Closed,
}

/// What a read of a thread ended with, so that the next read can tell what is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Keyed hashes of the newest messages, oldest first.
    pub keys: Vec<Short>,
    /// How many messages that read showed.
    pub total: usize,
    /// The order in which the upstream lists messages, where it could be told.
    pub newest_first: Option<bool>,
}

/// What a thread was told last, around its prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub instructions: Digest,
    pub form: Option<Digest>,
}

/// What a handle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleRecord {
    pub branch: BranchId,
    /// No request on this handle has carried an assistant message yet: each is new text to append.
    pub delta: bool,
    /// When it first led anywhere, in seconds since the epoch; 0 where that is not known.
    pub created: u64,
}

/// A handle inside its tenant.
pub type HandleKey = (Tenant, Handle);

/// A handle inside its tenant as it is looked up and written down, since names are long and nobody lists
/// them: the beginning of a hash, of 128 bits, so that nobody finds two that are taken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandleHash(pub [u8; 16]);

impl HandleHash {
    pub fn of((tenant, handle): &HandleKey) -> Self {
        let hash = Sha256::new()
            .chain_update(tenant.0)
            .chain_update(handle.0.as_bytes());
        Self(cut(&hash.finalize().into()))
    }
}

impl Branch {
    /// One whose first message is still to be posted. Nothing leads to it yet.
    pub fn unborn(tenant: Tenant, tip: Fingerprint, instructions: Digest) -> Self {
        Self {
            tenant,
            handles: Vec::new(),
            narrow: None,
            thread: None,
            tip,
            window: VecDeque::new(),
            instructions,
            state: State::Unborn,
            seen: None,
            passed: Passed::default(),
            doubted: false,
            origin: None,
            beside: None,
            form: None,
        }
    }

    /// The thread, where it may be posted to.
    pub fn open_thread(&self) -> Option<ThreadId> {
        match self.state {
            State::Open => self.thread.clone(),
            State::Unborn | State::Closed => None,
        }
    }

    pub fn told(&self) -> Told {
        Told {
            instructions: self.instructions,
            form: self.form,
        }
    }

    /// The handle that callers are told: their own name, or an id made here.
    pub fn conversation(&self) -> Option<&Handle> {
        self.handles.last()
    }

    /// Whether the last messages of this branch are these, for callers that send a window.
    pub fn ends_with(&self, digests: &[Digest]) -> bool {
        let short = digests.iter().map(cut);
        digests.len() <= self.window.len()
            && self
                .window
                .iter()
                .skip(self.window.len() - digests.len())
                .copied()
                .eq(short)
    }

    /// Moves the tip over `digests` to `tip`.
    pub fn advance(&mut self, tip: Fingerprint, digests: &[Digest]) {
        self.extend_window(digests.iter().map(cut));
        self.tip = tip;
    }

    /// Adds to the short hashes of the last messages.
    pub fn extend_window(&mut self, shorts: impl IntoIterator<Item = Short>) {
        self.window.extend(shorts);
        let excess = self.window.len().saturating_sub(WINDOW);
        self.window.drain(..excess);
    }
}

/// A lease on a branch: one run at a time on a thread. Waiters get it in the order they came.
pub type Lease = tokio::sync::OwnedMutexGuard<()>;

/// Where the lease of a branch is kept.
pub type LeaseLock = Arc<tokio::sync::Mutex<()>>;
