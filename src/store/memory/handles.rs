//! The names of conversations, and where they lead.

use std::sync::{MutexGuard, PoisonError};

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use super::{PARTS, Slot, Store, put, take};
use crate::clock::Moment;
use crate::ids::{Handle, cut};
use crate::store::backend::{Table, Write};
use crate::store::record;
use crate::store::{BranchId, HandleKey, HandleRecord, State};

/// How many names may lead to one branch; the oldest make room.
const HANDLES_PER_BRANCH: usize = 16;

/// Where names lead, each known by the beginning of a hash: names are long, and nobody lists them.
#[derive(Debug)]
pub struct Handles(DashMap<Name, HandleRecord>);

/// 128 bits, so that nobody finds two names that are taken for one.
type Name = [u8; 16];

impl Handles {
    pub fn with_room(room: usize) -> Self {
        Self(DashMap::with_capacity_and_shard_amount(room, PARTS))
    }

    pub fn insert(&self, key: &HandleKey, record: HandleRecord) {
        self.0.insert(name(key), record);
    }

    fn leads_to(&self, key: &HandleKey) -> Option<HandleRecord> {
        self.0.get(&name(key)).map(|record| *record)
    }

    /// Where it leads by now, if to nothing yet then here.
    fn insert_new(&self, key: &HandleKey, record: HandleRecord) -> HandleRecord {
        *self.0.entry(name(key)).or_insert(record)
    }

    fn end_delta(&self, key: &HandleKey) -> Option<HandleRecord> {
        let mut record = self.0.get_mut(&name(key))?;
        record.delta = false;
        Some(*record)
    }

    /// Whether it led there.
    fn remove(&self, key: &HandleKey, branch: BranchId) -> bool {
        let leads_there = |_: &Name, record: &HandleRecord| record.branch == branch;
        self.0.remove_if(&name(key), leads_there).is_some()
    }
}

fn name((tenant, handle): &HandleKey) -> Name {
    let hash = Sha256::new()
        .chain_update(tenant.0)
        .chain_update(handle.0.as_bytes());
    cut(&hash.finalize().into())
}

impl Store {
    pub fn handle(&self, key: &HandleKey) -> Option<HandleRecord> {
        self.handles.leads_to(key)
    }

    /// Makes a handle lead to this branch, unless the branch is forgotten.
    pub fn set_handle(&self, handle: &Handle, slot: &Slot, delta: bool) {
        let (tenant, dropped) = self.change(slot, |branch| {
            branch.handles.retain(|known| known != handle);
            branch.handles.push(handle.clone());
            let excess = branch.handles.len() > HANDLES_PER_BRANCH;
            (branch.tenant, excess.then(|| branch.handles.remove(0)))
        });
        if let Some(dropped) = dropped {
            self.drop_handle(&(tenant, dropped), slot.id);
        }
        let key = (tenant, handle.clone());
        let record = self.leads_to(&key, slot, delta);
        self.lead(&key, record, slot);
        if !self.branches.contains_key(&slot.id) {
            self.drop_handle(&key, slot.id);
        }
    }

    /// Makes a handle lead to this branch unless it leads to one already.
    pub fn claim_handle(&self, handle: &Handle, slot: &Slot, delta: bool) -> bool {
        let key = (slot.look(|branch| branch.tenant), handle.clone());
        let record = self.leads_to(&key, slot, delta);
        if let Some(known) = self.handle(&key)
            && !self.branches.contains_key(&known.branch)
        {
            self.drop_handle(&key, known.branch);
        }
        let claimed = self.handles.insert_new(&key, record) == record;
        if claimed {
            self.change(slot, |branch| branch.handles.push(handle.clone()));
        }
        claimed
    }

    /// A name keeps the time when it was first used.
    fn leads_to(&self, key: &HandleKey, slot: &Slot, delta: bool) -> HandleRecord {
        let created = self.handle(key).map(|leads| leads.created);
        let made = || self.conversations.made_at(key);
        HandleRecord {
            branch: slot.id,
            delta,
            created: created
                .or_else(made)
                .unwrap_or_else(|| Moment::of_wall().0 / 1000),
        }
    }

    /// Makes a handle lead to a branch. The backend learns of it no sooner than of the branch: a
    /// conversation whose new thread never came about is still found where it was.
    fn lead(&self, key: &HandleKey, record: HandleRecord, slot: &Slot) {
        let _links = self.links();
        self.handles.insert(key, record);
        if slot.is_written() {
            self.backend.queue(vec![put_handle(key, record)]);
        }
    }

    pub fn links(&self) -> MutexGuard<'_, ()> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request on this handle carried an assistant message: from now on each is a whole history.
    pub fn end_delta(&self, key: &HandleKey) {
        if !self.handle(key).is_some_and(|record| record.delta) {
            return;
        }
        let _links = self.links();
        let Some(record) = self.handles.end_delta(key) else {
            return;
        };
        if self
            .kept(record.branch)
            .is_some_and(|slot| slot.is_written())
        {
            self.backend.queue(vec![put_handle(key, record)]);
        }
    }

    /// Forgets a handle, if it leads to this branch.
    pub fn drop_handle(&self, key: &HandleKey, id: BranchId) {
        let _links = self.links();
        if self.handles.remove(key, id) {
            let key = record::handle_key(key);
            self.backend.queue(vec![take(Table::Handles, key)]);
        }
    }

    /// Forgets the branch that a handle leads to, if its thread may not be posted to any more.
    pub fn forget_closed(&self, key: &HandleKey) {
        let slot = self.handle(key).and_then(|leads| self.kept(leads.branch));
        if let Some(slot) = slot
            && slot.look(|branch| branch.state == State::Closed)
        {
            self.forget(slot.id);
        }
    }
}

pub fn put_handle(key: &HandleKey, record: HandleRecord) -> Write {
    let value = record::handle_value(record);
    put(Table::Handles, record::handle_key(key), value)
}
