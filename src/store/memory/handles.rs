//! The names of conversations, and where they lead.

use std::sync::{MutexGuard, PoisonError};

use super::{Slot, Store, in_parts, put, take};
use crate::clock::Moment;
use crate::ids::{ByOurs, Handle};
use crate::store::backend::{Table, Write};
use crate::store::record;
use crate::store::{BranchId, HandleHash, HandleKey, HandleRecord, State};

/// How many names may lead to one branch; the oldest make room.
const HANDLES_PER_BRANCH: usize = 16;

/// Where names lead.
#[derive(Debug)]
pub struct Handles(ByOurs<HandleHash, HandleRecord>);

impl Handles {
    pub fn with_room(room: usize) -> Self {
        Self(in_parts(room))
    }

    pub fn insert(&self, hash: HandleHash, record: HandleRecord) {
        self.0.insert(hash, record);
    }

    pub fn leads_to(&self, hash: HandleHash) -> Option<HandleRecord> {
        self.0.get(&hash).map(|record| *record)
    }

    /// Where it leads by now, if to nothing yet then here.
    fn insert_new(&self, hash: HandleHash, record: HandleRecord) -> HandleRecord {
        *self.0.entry(hash).or_insert(record)
    }

    fn end_delta(&self, hash: HandleHash) -> Option<HandleRecord> {
        let mut record = self.0.get_mut(&hash)?;
        record.delta = false;
        Some(*record)
    }

    /// What is taken away, if it led there.
    fn remove(&self, hash: HandleHash, branch: BranchId) -> Option<HandleRecord> {
        let taken = self
            .0
            .remove_if(&hash, |_, record| record.branch == branch)?;
        Some(taken.1)
    }
}

impl Store {
    pub fn handle(&self, key: &HandleKey) -> Option<HandleRecord> {
        self.handles.leads_to(HandleHash::of(key))
    }

    /// Makes a handle lead to this branch, unless the branch is forgotten.
    pub fn set_handle(&self, handle: &Handle, slot: &Slot, delta: bool) {
        if self.leads(handle, slot, delta) {
            return;
        }
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
        self.lead(&key, slot, delta);
        if !self.branches.contains_key(&slot.id) {
            self.drop_handle(&key, slot.id);
        }
    }

    /// Whether a handle leads to this branch as it is, and is what its callers are told: in nearly every turn.
    fn leads(&self, handle: &Handle, slot: &Slot, delta: bool) -> bool {
        let tenant = slot.look(|branch| {
            let is_told = branch.conversation() == Some(handle);
            is_told.then_some(branch.tenant)
        });
        let leads = tenant.and_then(|tenant| self.handle(&(tenant, handle.clone())));
        leads.is_some_and(|leads| leads.branch == slot.id && leads.delta == delta)
    }

    /// Makes a handle lead to this branch unless it leads to one already.
    pub fn claim_handle(&self, handle: &Handle, slot: &Slot, delta: bool) -> bool {
        let key = (slot.look(|branch| branch.tenant), handle.clone());
        let hash = HandleHash::of(&key);
        let record = self.record_for((&key, hash), slot, delta);
        if let Some(known) = self.handles.leads_to(hash)
            && !self.branches.contains_key(&known.branch)
        {
            self.drop_handle(&key, known.branch);
        }
        let claimed = self.handles.insert_new(hash, record) == record;
        if claimed {
            self.change(slot, |branch| branch.handles.push(handle.clone()));
        }
        claimed
    }

    /// A name keeps the time when it was first used.
    fn record_for(
        &self,
        (key, hash): (&HandleKey, HandleHash),
        slot: &Slot,
        delta: bool,
    ) -> HandleRecord {
        let created = self.handles.leads_to(hash).map(|leads| leads.created);
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
    fn lead(&self, key: &HandleKey, slot: &Slot, delta: bool) {
        let hash = HandleHash::of(key);
        let _links = self.links();
        let record = self.record_for((key, hash), slot, delta);
        self.handles.insert(hash, record);
        if slot.is_written() {
            self.backend.queue(vec![put_handle(hash, record)]);
        }
    }

    pub fn links(&self) -> MutexGuard<'_, ()> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request on this handle carried an assistant message: from now on each is a whole history.
    pub fn end_delta(&self, key: &HandleKey) {
        let hash = HandleHash::of(key);
        let leads = self.handles.leads_to(hash);
        if !leads.is_some_and(|record| record.delta) {
            return;
        }
        let _links = self.links();
        let Some(record) = self.handles.end_delta(hash) else {
            return;
        };
        if self
            .kept(record.branch)
            .is_some_and(|slot| slot.is_written())
        {
            self.backend.queue(vec![put_handle(hash, record)]);
        }
    }

    /// Forgets a handle, if it leads to this branch.
    pub fn drop_handle(&self, key: &HandleKey, id: BranchId) {
        let hash = HandleHash::of(key);
        let _links = self.links();
        if let Some(record) = self.handles.remove(hash, id) {
            self.backend.queue(vec![take_handle(hash, record)]);
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

pub fn put_handle(hash: HandleHash, record: HandleRecord) -> Write {
    let key = record::handle_key(hash, record.created);
    put(Table::Handles, key, record::handle_value(record))
}

pub fn take_handle(hash: HandleHash, record: HandleRecord) -> Write {
    take(Table::Handles, record::handle_key(hash, record.created))
}
