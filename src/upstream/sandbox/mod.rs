//! The simulated upstream: the wire format of the real one, sample data to ask about, and a script
//! for whatever can go wrong.

mod demo;
mod document;
mod fill;
pub mod part;
pub mod recital;
pub mod reply;
pub mod script;
pub mod shape;
mod state;
mod thread;
mod wanted;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::reply::Reply;
use self::script::Script;
use self::state::State;
use super::wire::{self, Failure};
use super::{Call, NewMessage, PostError, Posted, ReadError, Thread, ThreadId, Upstream};
use crate::secret::Secret;

/// The simulated upstream. Clones share one state.
#[derive(Clone)]
pub struct Sandbox {
    state: Arc<Mutex<State>>,
}

/// One call, as the upstream takes it.
#[derive(Clone, Debug)]
pub enum Request {
    NewMessage {
        message: String,
        thread_id: Option<String>,
    },
    GetThread {
        thread_id: String,
    },
}

/// A call that was made, for tests.
#[derive(Clone)]
pub struct Seen {
    pub at: Instant,
    /// The key presented.
    pub key: Option<Secret>,
    pub kind: Kind,
    /// Absent for a POST that begins a thread.
    pub thread: Option<ThreadId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Post,
    Read,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("at", &self.at)
            .field("kind", &self.kind)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

impl Sandbox {
    pub fn new(script: Script) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new(script))),
        }
    }

    /// From here on; runs under way keep their behaviour, and every rule is unused again.
    pub fn set_script(&self, script: Script) {
        self.state().script = script;
    }

    /// Answers one call of whoever presents `key`. Dropped before a message's acceptance, it leaves
    /// no trace of it.
    pub async fn answer(&self, key: Option<&Secret>, request: Request) -> Reply {
        if let Err(refusal) = self.state().admit(key, &request) {
            return refusal.into();
        }
        match request {
            Request::NewMessage { message, thread_id } => {
                let thread = thread_id.map(|id| ThreadId(id.into()));
                self.new_message(message, thread).await
            }
            Request::GetThread { thread_id } => self.get_thread(&ThreadId(thread_id.into())).await,
        }
    }

    /// The messages that have reached their threads, in the order of arrival.
    pub fn posts(&self) -> Vec<(ThreadId, String)> {
        self.state().posts()
    }

    /// The threads that hold a message, oldest first.
    pub fn threads(&self) -> Vec<ThreadId> {
        self.state().threads()
    }

    /// Every call with the key that it presented, in order.
    pub fn calls(&self) -> Vec<Seen> {
        self.state().calls()
    }

    /// When each read of a thread was made.
    pub fn reads(&self, thread: &ThreadId) -> Vec<Instant> {
        let mut calls = self.calls();
        calls.retain(|call| call.kind == Kind::Read && call.thread.as_ref() == Some(thread));
        calls.into_iter().map(|call| call.at).collect()
    }

    /// Loses a thread: from here on it is 404.
    pub fn forget(&self, thread: &ThreadId) {
        self.state().remove(thread);
    }

    async fn new_message(&self, message: String, thread: Option<ThreadId>) -> Reply {
        let behaviour = self.state().behaviour(&message);
        pause(behaviour.post.accept_after).await;
        let taken = self.state().take(message, thread, &behaviour);
        match taken {
            Ok(proper) => {
                pause(behaviour.post.answer_after).await;
                Reply::new(&behaviour.post.answer, proper)
            }
            Err(refusal) => refusal.into(),
        }
    }

    async fn get_thread(&self, thread: &ThreadId) -> Reply {
        let delay = self.state().read_delay(thread);
        pause(delay).await;
        self.state().read(thread)
    }

    async fn receive(&self, key: &Secret, request: Request) -> Result<wire::Answered, Failure> {
        let key = Some(key).filter(|key| !key.expose().is_empty());
        self.answer(key, request).await.received().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream for Sandbox {
    fn post<'a>(
        &'a self,
        key: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        Box::pin(async {
            let asked = message.thread.as_ref();
            let request = Request::NewMessage {
                message: message.text.clone(),
                thread_id: asked.map(ToString::to_string),
            };
            wire::posted(asked, &self.receive(key, request).await?)
        })
    }

    fn read<'a>(
        &'a self,
        key: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        Box::pin(async {
            let thread_id = thread.to_string();
            let request = Request::GetThread { thread_id };
            wire::thread(&self.receive(key, request).await?)
        })
    }
}

async fn pause(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}
