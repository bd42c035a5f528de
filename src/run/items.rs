//! Conversations as their callers look after them: made, described, read item by item, and forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::sleep;

use super::Error;
use super::baseline::in_order;
use super::listing::Line;
use super::live::{Runner, Shared};
use super::notes::{Full, Pending};
use super::replay::TRANSCRIPT_READS;
use super::retelling::Retelling;
use crate::conversation::salt::Salt;
use crate::conversation::{Caller, Message};
use crate::ids::{Handle, cut};
use crate::store::{Branch, HandleKey, Seen};
use crate::upstream::{ReadError, ThreadId};

/// A conversation, as far as it is not items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Seconds since the epoch; 0 where it is not remembered.
    pub created: u64,
    /// As its caller wrote it; `None` where that is not kept, as after a restart.
    pub metadata: Option<Arc<str>>,
}

/// One item of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A message that its thread shows.
    Shown {
        /// What it is known by: the same whenever it is read.
        key: [u8; 16],
        message: Message,
        /// Seconds since the epoch.
        created: Option<f64>,
    },
    /// To be posted with the next prompt.
    Pending(Pending),
}

/// Why nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    #[error("there is no such conversation here")]
    Unknown,
    #[error(transparent)]
    Full(#[from] Full),
}

impl Runner {
    /// Makes a conversation in which nothing was said yet. `created` is in seconds since the epoch.
    pub async fn create_conversation(
        &self,
        caller: &Caller,
        created: u64,
        metadata: Option<Arc<str>>,
        items: Vec<Pending>,
    ) -> Result<Handle, NotKept> {
        let shared = &self.0;
        let handle = shared.resolver.mint();
        let key = (caller.tenant, handle.clone());
        let now = shared.store.now();
        if let Some(metadata) = metadata {
            shared.notes.set_metadata(&key, metadata, now)?;
        }
        if !items.is_empty() {
            shared.notes.add_items(&key, items, now)?;
        }
        shared.store.make_conversation(&key, created);
        shared.flushed().await;
        Ok(handle)
    }

    /// The conversation of this handle. Foreign and unknown ones are alike.
    pub fn conversation(&self, caller: &Caller, handle: &Handle) -> Option<Conversation> {
        let key = (caller.tenant, handle.clone());
        Some(Conversation {
            created: self.0.store.created(&key)?,
            metadata: self.0.notes.metadata(&key),
        })
    }

    pub fn describe_conversation(
        &self,
        caller: &Caller,
        handle: &Handle,
        metadata: Arc<str>,
    ) -> Result<(), NotKept> {
        let key = self.0.known(caller, handle).ok_or(NotKept::Unknown)?;
        let now = self.0.store.now();
        Ok(self.0.notes.set_metadata(&key, metadata, now)?)
    }

    /// Forgets a conversation and all that is remembered of it. A run that is under way in it goes on to
    /// its end. False where it was not known.
    pub fn forget_conversation(&self, caller: &Caller, handle: &Handle) -> bool {
        let shared = &self.0;
        let Some(key) = shared.known(caller, handle) else {
            return false;
        };
        shared.notes.forget(&key);
        shared.store.forget_conversation(&key);
        true
    }

    /// Adds items, to be posted with the next prompt.
    pub fn add_items(
        &self,
        caller: &Caller,
        handle: &Handle,
        items: Vec<Pending>,
    ) -> Result<(), NotKept> {
        let key = self.0.known(caller, handle).ok_or(NotKept::Unknown)?;
        let now = self.0.store.now();
        Ok(self.0.notes.add_items(&key, items, now)?)
    }

    /// Takes back items that are not posted yet. False where none are meant.
    pub fn drop_items(
        &self,
        caller: &Caller,
        handle: &Handle,
        is_meant: impl Fn(&Pending) -> bool,
    ) -> bool {
        let key = (caller.tenant, handle.clone());
        self.0.notes.drop_items(&key, is_meant)
    }

    /// All items, oldest first: what its thread shows, and what is not posted yet.
    pub async fn items(&self, caller: &Caller, handle: &Handle) -> Result<Vec<Item>, Error> {
        let shared = &self.0;
        self.resume(caller);
        let unknown = || Error::NoConversation(handle.to_string());
        let key = shared.known(caller, handle).ok_or_else(unknown)?;
        let branch = shared.branch_of(&key).ok_or_else(unknown)?;
        let mut items = match branch {
            Some((thread, seen)) => {
                let shown = shared.shown(caller, &thread, &seen).await?;
                shown.ok_or_else(unknown)?
            }
            None => Vec::new(),
        };
        items.extend(shared.notes.items(&key).into_iter().map(Item::Pending));
        Ok(items)
    }
}

impl Shared {
    fn known(&self, caller: &Caller, handle: &Handle) -> Option<HandleKey> {
        let key = (caller.tenant, handle.clone());
        self.store.created(&key).map(|_| key)
    }

    /// The thread that holds a conversation, and what it ended with, if anything was said in it. `None`
    /// where that is forgotten.
    fn branch_of(&self, key: &HandleKey) -> Option<Option<(ThreadId, Seen)>> {
        let Some(leads) = self.store.handle(key) else {
            return Some(None);
        };
        let mut slot = self.store.branch(leads.branch)?;
        loop {
            let Branch {
                thread,
                seen,
                origin,
                ..
            } = slot.branch();
            match (thread, seen, origin) {
                (Some(thread), Some(seen), _) => return Some(Some((thread, seen))),
                (_, _, Some(origin)) => slot = self.store.branch(origin)?,
                (_, _, None) => return Some(None),
            }
        }
    }

    /// What a thread shows of itself up to an earlier read. `None` where it is lost.
    async fn shown(
        &self,
        caller: &Caller,
        thread: &ThreadId,
        seen: &Seen,
    ) -> Result<Option<Vec<Item>>, Error> {
        let mut lost = false;
        for failures in 1..=TRANSCRIPT_READS {
            match self.calls.read_apart(caller, thread).await {
                Ok(listing) => {
                    if let Some(lines) = in_order(seen, &listing) {
                        return Ok(Some(items_of(&self.salt, &lines)));
                    }
                }
                Err(ReadError::KeyRefused(status)) => return Err(Error::KeyRefused(status)),
                Err(ReadError::NoThread) if lost => return Ok(None),
                // What was read before may be lost for a moment only.
                Err(ReadError::NoThread) => lost = true,
                Err(ReadError::Busy(_) | ReadError::Passing(_)) => {}
            }
            sleep(self.pace.back_off(thread, failures, None)).await;
        }
        Err(Error::Unreachable)
    }
}

/// The messages that stand in these lines.
fn items_of(salt: &Salt, lines: &[&Line]) -> Vec<Item> {
    let mut equal: HashMap<_, u64> = HashMap::new();
    let mut items = Vec::new();
    let mut retelling = Retelling::new(salt);
    for line in lines {
        let nth = equal.entry(line.key).or_default();
        *nth += 1;
        let messages = retelling.messages(line);
        // Counted from the prompt on, which is the last.
        for (at, message) in (0..messages.len() as u64).rev().zip(messages) {
            let numbers = [nth.to_le_bytes(), at.to_le_bytes()].concat();
            let key = cut(&salt.hash("item", [line.key.as_slice(), &numbers]));
            items.push(Item::Shown {
                key,
                message,
                created: line.message.created_at,
            });
        }
    }
    items
}
