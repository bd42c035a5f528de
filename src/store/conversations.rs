//! Conversations that callers have made before anything was said in them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::backend::Table;
use super::memory::{put, take};
use super::{HandleKey, Store, record};
use crate::clock::Moment;

/// When a conversation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Seconds since the epoch.
    pub created: u64,
    pub at: Moment,
}

/// Those that are remembered, whether anything was said in them or not.
#[derive(Debug, Default)]
pub struct Conversations {
    made: DashMap<HandleKey, Made>,
    /// From the oldest on; one that is forgotten may still stand here.
    order: Mutex<VecDeque<HandleKey>>,
}

impl Conversations {
    /// When this one was made, in seconds since the epoch.
    pub fn made_at(&self, key: &HandleKey) -> Option<u64> {
        self.made.get(key).map(|made| made.created)
    }

    fn order(&self) -> MutexGuard<'_, VecDeque<HandleKey>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Remembers a conversation under a name that leads nowhere yet.
    pub fn make_conversation(&self, key: &HandleKey, created: u64) {
        let at = self.now();
        self.enter_conversation(key, Made { created, at });
        let value = record::conversation_value(Made { created, at });
        let write = put(Table::Conversations, record::conversation_key(key), value);
        self.backend.queue(vec![write]);
        self.drop_old_conversations(at);
    }

    /// Takes up those that an earlier process has left.
    pub fn restore_conversations(&self, mut made: Vec<(HandleKey, Made)>) {
        made.sort_by_key(|(_, made)| made.at);
        for (key, made) in made {
            self.enter_conversation(&key, made);
        }
    }

    /// Whether a caller has made this conversation, and it is not forgotten.
    pub fn is_made(&self, key: &HandleKey) -> bool {
        self.conversations.made.contains_key(key)
    }

    /// When a conversation began, in seconds since the epoch; 0 where that is not remembered. `None` for
    /// one that is not known.
    pub fn created(&self, key: &HandleKey) -> Option<u64> {
        let made = self.conversations.made_at(key);
        let leads = self.handle(key);
        let leads = leads.filter(|leads| self.branch(leads.branch).is_some());
        made.or(leads.map(|leads| leads.created))
    }

    /// Forgets a conversation, the branch that it leads to, and every name of that.
    pub fn forget_conversation(&self, key: &HandleKey) {
        if let Some(leads) = self.handle(key) {
            self.forget(leads.branch);
            self.drop_handle(key, leads.branch);
        }
        self.unmake(key);
    }

    fn enter_conversation(&self, key: &HandleKey, made: Made) {
        self.conversations.made.insert(key.clone(), made);
        self.conversations.order().push_back(key.clone());
    }

    fn unmake(&self, key: &HandleKey) {
        if self.conversations.made.remove(key).is_some() {
            let write = take(Table::Conversations, record::conversation_key(key));
            self.backend.queue(vec![write]);
        }
    }

    /// Where something was said, the name goes on to lead there.
    fn drop_old_conversations(&self, now: Moment) {
        let bounds = self.bounds();
        let mut dropped = Vec::new();
        let mut order = self.conversations.order();
        while let Some(oldest) = order.front() {
            let made = self.conversations.made.get(oldest).map(|made| *made);
            let is_old = made.is_none_or(|made| now.since(made.at) > bounds.max_age);
            if !is_old && order.len() <= bounds.max {
                break;
            }
            dropped.extend(order.pop_front());
        }
        drop(order);
        dropped.iter().for_each(|key| self.unmake(key));
    }
}
