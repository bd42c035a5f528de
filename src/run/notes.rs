//! What callers keep with their conversations, in memory alone: metadata, and items that are posted
//! nowhere yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Moment;
use crate::conversation::Message;
use crate::ids::Tenant;
use crate::store::HandleKey;

/// Bytes of metadata and items, of all tenants and of one.
const MOST_IN_ALL: usize = 64 << 20;
const MOST_OF_ONE: usize = 16 << 20;

/// What anything costs beside its bytes.
const OVERHEAD: usize = 256;

/// An item that is posted with the next prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `None` for one that nobody need be told, such as reasoning.
    pub message: Option<Message>,
    /// As its caller is shown it.
    pub shown: Arc<str>,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is kept for conversations that nothing was asked in")]
pub struct Full;

/// What is kept of conversations.
#[derive(Debug)]
pub struct Notes {
    kept: Mutex<Kept>,
    max: usize,
    max_age: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    of: HashMap<HandleKey, Note>,
    /// From the one on that was changed the longest ago.
    order: BTreeMap<u64, HandleKey>,
    next: u64,
    bytes: usize,
    by: HashMap<Tenant, usize>,
}

#[derive(Debug)]
struct Note {
    metadata: Option<Arc<str>>,
    items: Vec<Pending>,
    bytes: usize,
    number: u64,
    changed: Moment,
}

impl Notes {
    pub fn new(max: usize, max_age: Duration) -> Self {
        Self {
            kept: Mutex::default(),
            max,
            max_age,
        }
    }

    pub fn metadata(&self, key: &HandleKey) -> Option<Arc<str>> {
        self.kept().of.get(key)?.metadata.clone()
    }

    pub fn items(&self, key: &HandleKey) -> Vec<Pending> {
        let kept = self.kept();
        kept.of
            .get(key)
            .map_or(Vec::new(), |note| note.items.clone())
    }

    pub fn set_metadata(
        &self,
        key: &HandleKey,
        metadata: Arc<str>,
        now: Moment,
    ) -> Result<(), Full> {
        self.change(key, now, |note| note.metadata = Some(metadata))
    }

    pub fn add_items(&self, key: &HandleKey, items: Vec<Pending>, now: Moment) -> Result<(), Full> {
        self.change(key, now, |note| note.items.extend(items))
    }

    /// Takes all items out, for a turn that posts them.
    pub fn take_items(&self, key: &HandleKey) -> Vec<Pending> {
        self.changed(key, |note| std::mem::take(&mut note.items))
    }

    /// Puts items back in front, whatever room there is.
    pub fn put_back(&self, key: &HandleKey, items: Vec<Pending>) {
        if !items.is_empty() {
            self.changed(key, |note| note.items.splice(0..0, items).count());
        }
    }

    /// Takes the items out that are meant. False where there are none.
    pub fn drop_items(&self, key: &HandleKey, is_meant: impl Fn(&Pending) -> bool) -> bool {
        self.changed(key, |note| {
            let before = note.items.len();
            note.items.retain(|item| !is_meant(item));
            note.items.len() < before
        })
    }

    pub fn forget(&self, key: &HandleKey) {
        self.kept().remove(key);
    }

    /// Changes what is there of a conversation, if anything is, to something no larger.
    fn changed<T: Default>(&self, key: &HandleKey, change: impl FnOnce(&mut Note) -> T) -> T {
        let mut kept = self.kept();
        let Some(mut note) = kept.remove(key) else {
            return T::default();
        };
        let changed = change(&mut note);
        kept.insert(key, note);
        changed
    }

    fn change(
        &self,
        key: &HandleKey,
        now: Moment,
        change: impl FnOnce(&mut Note),
    ) -> Result<(), Full> {
        let mut kept = self.kept();
        let before = kept.of.get(key);
        let mut note = before.map_or(Note::new(now), Note::copy);
        change(&mut note);
        note.changed = now;
        let others = kept.by.get(&key.0).copied().unwrap_or_default()
            - kept.of.get(key).map_or(0, |note| note.bytes);
        if others + note.weight() > MOST_OF_ONE {
            return Err(Full);
        }
        kept.remove(key);
        note.number = kept.next;
        kept.next += 1;
        kept.insert(key, note);
        kept.shrink(now, self.max, self.max_age);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, key: &HandleKey, mut note: Note) {
        note.bytes = note.weight();
        self.bytes += note.bytes;
        *self.by.entry(key.0).or_default() += note.bytes;
        self.order.insert(note.number, key.clone());
        self.of.insert(key.clone(), note);
    }

    fn remove(&mut self, key: &HandleKey) -> Option<Note> {
        let note = self.of.remove(key)?;
        self.order.remove(&note.number);
        self.bytes -= note.bytes;
        if let Some(of_tenant) = self.by.get_mut(&key.0) {
            *of_tenant -= note.bytes;
            if *of_tenant == 0 {
                self.by.remove(&key.0);
            }
        }
        Some(note)
    }

    fn shrink(&mut self, now: Moment, max: usize, max_age: Duration) {
        while let Some(oldest) = self.order.values().next().cloned() {
            let changed = self.of.get(&oldest).map(|note| note.changed);
            let is_old = changed.is_none_or(|changed| now.since(changed) > max_age);
            if !is_old && self.of.len() <= max && self.bytes <= MOST_IN_ALL {
                return;
            }
            self.remove(&oldest);
        }
    }
}

impl Note {
    fn new(now: Moment) -> Self {
        Self {
            metadata: None,
            items: Vec::new(),
            bytes: 0,
            number: 0,
            changed: now,
        }
    }

    fn copy(&self) -> Self {
        Self {
            metadata: self.metadata.clone(),
            items: self.items.clone(),
            ..*self
        }
    }

    fn weight(&self) -> usize {
        let items = self.items.iter().map(|item| {
            let message = item.message.as_ref();
            let text = message.map_or(0, |message| message.text.len());
            OVERHEAD + text + item.shown.len()
        });
        let metadata = self.metadata.as_ref().map_or(0, |metadata| metadata.len());
        OVERHEAD + metadata + items.sum::<usize>()
    }
}
