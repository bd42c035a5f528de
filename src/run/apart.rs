//! Long texts are hashed away from the threads that serve everyone.

use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::spawn_blocking;

use super::listing::{self, Listing};
use super::live::{Runner, Shared};
use crate::conversation::Turn;
use crate::conversation::resolve::Hashes;
use crate::conversation::salt::Salt;
use crate::ids::Mark;
use crate::upstream::Thread;

/// Texts of more bytes than this are long.
const LONG: usize = 256 * 1024;

/// A turn, and what it is known by where that is worked out already.
#[derive(Debug)]
pub struct Hashed {
    pub turn: Turn,
    pub hashes: Option<Hashes>,
}

impl From<Turn> for Hashed {
    fn from(turn: Turn) -> Self {
        Self { turn, hashes: None }
    }
}

impl Runner {
    /// The turn, hashed if it is long.
    pub async fn hashed(&self, turn: Turn) -> Hashed {
        let messages = turn.history.iter().chain(&turn.prompt);
        // What is known is not hashed again.
        let new = messages.filter(|message| message.facts().is_none());
        let texts: usize = new.map(|message| message.text.len()).sum();
        let bytes = texts + turn.instructions.as_deref().map_or(0, str::len);
        if bytes <= LONG {
            return turn.into();
        }
        let shared = Arc::clone(&self.0);
        apart(move || Hashed {
            hashes: Some(Hashes::of(&shared.salt, &turn)),
            turn,
        })
        .await
    }
}

impl Shared {
    /// What a text that is about to be posted is found by.
    pub async fn mark(&self, text: &str) -> Mark {
        if text.len() <= LONG {
            return listing::mark(&self.salt, text);
        }
        let (salt, text) = (self.salt.clone(), text.to_owned());
        apart(move || listing::mark(&salt, &text)).await
    }
}

/// What a read has shown, with what each message is known by.
pub async fn listing(salt: &Salt, thread: Thread) -> Listing {
    let texts = thread.messages.iter().map(|message| message.text.len());
    if texts.sum::<usize>() <= LONG {
        return Listing::of(salt, thread);
    }
    let salt = salt.clone();
    apart(move || Listing::whole(&salt, thread)).await
}

/// Does what nobody waits for: at once on a runtime of one thread, whose order of things is to be
/// the same each time.
pub fn aside(work: impl FnOnce() + Send + 'static) {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => drop(spawn_blocking(work)),
    }
}

async fn apart<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|gone| resume_unwind(gone.into_panic()))
}
