//! The records as a concurrent map, bounded by count and age, and written through to a backend.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::backend::{Backend, Table, Unwritten, Write};
use super::record::{self, Turn, TurnId};
use super::{Branch, BranchId, HandleKey, HandleRecord, Lease, LeaseLock, PASSED, State};
use crate::clock::{Clock, Moment};
use crate::ids::{Fingerprint, Handle};

/// How many branches one fingerprint may lead to; the oldest make room.
const BRANCHES_PER_POINT: usize = 32;

/// How many names may lead to one branch; the oldest make room.
const HANDLES_PER_BRANCH: usize = 16;

/// How many busy branches are passed over in the search for one to forget.
const BUSY_PASSED_OVER: usize = 16;

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In branches.
    pub max: usize,
    pub max_age: Duration,
}

/// Every record of this process.
#[derive(Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
    clock: Clock,
    branches: DashMap<BranchId, Arc<Slot>>,
    /// Every tip that is or was, and the branches that have passed it.
    points: DashMap<Fingerprint, Vec<BranchId>>,
    handles: DashMap<HandleKey, HandleRecord>,
    /// Held while a handle is made to lead elsewhere and that is queued, so that the backend sees such
    /// changes in their order.
    links: Mutex<()>,
    next_branch: AtomicU64,
    next_turn: AtomicU64,
    /// Branches in the order they were last used; an entry that was used since is passed over.
    order: Mutex<VecDeque<(Moment, BranchId)>>,
    bounds: Bounds,
}

/// A branch's record, and what guards it.
#[derive(Debug)]
pub struct Slot {
    pub id: BranchId,
    pub lease: LeaseLock,
    /// Requests that wait for the lease.
    pub waiting: AtomicUsize,
    /// The backend has this branch, and so the handles that lead to it.
    written: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Debug)]
struct Record {
    branch: Branch,
    used: Moment,
    forgotten: bool,
}

impl Slot {
    fn new(id: BranchId, branch: Branch, used: Moment) -> Arc<Self> {
        Arc::new(Self {
            id,
            lease: LeaseLock::default(),
            waiting: AtomicUsize::new(0),
            written: AtomicBool::new(false),
            record: Mutex::new(Record {
                branch,
                used,
                forgotten: false,
            }),
        })
    }

    /// A copy of the record as it is.
    pub fn branch(&self) -> Branch {
        self.lock().branch.clone()
    }

    /// Looks at the record without copying it. Must not wait.
    pub fn look<T>(&self, look: impl FnOnce(&Branch) -> T) -> T {
        look(&self.lock().branch)
    }

    fn used(&self) -> Moment {
        self.lock().used
    }

    fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // A panic while a record was changed leaves a whole record: every change is one assignment
        // after another of values that are already made.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    pub fn new(bounds: Bounds, clock: Clock, backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            clock,
            branches: DashMap::new(),
            points: DashMap::new(),
            handles: DashMap::new(),
            links: Mutex::new(()),
            next_branch: AtomicU64::new(0),
            next_turn: AtomicU64::new(0),
            order: Mutex::new(VecDeque::new()),
            bounds,
        }
    }

    /// Takes up what an earlier process has left, before anybody asks.
    pub fn restore(
        &self,
        mut branches: Vec<(BranchId, Branch, Moment)>,
        handles: Vec<(HandleKey, HandleRecord)>,
    ) {
        branches.sort_by_key(|(id, _, used)| (*used, *id));
        let newest = branches.iter().map(|(id, _, _)| id.0 + 1).max();
        self.next_branch
            .fetch_max(newest.unwrap_or_default(), Ordering::Relaxed);
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, branch, used) in branches {
            for point in branch.passed.iter().chain([&branch.tip]) {
                self.point(*point, id);
            }
            let slot = Slot::new(id, branch, used);
            slot.written.store(true, Ordering::Release);
            self.branches.insert(id, slot);
            order.push_back((used, id));
        }
        drop(order);
        for (key, record) in handles {
            if self.branches.contains_key(&record.branch) {
                self.handles.insert(key, record);
            }
        }
    }

    /// Makes the ids of turns go on beyond this one.
    pub fn passed_turn(&self, id: TurnId) {
        self.next_turn.fetch_max(id.0 + 1, Ordering::Relaxed);
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub fn new_turn(&self) -> TurnId {
        TurnId(self.next_turn.fetch_add(1, Ordering::Relaxed))
    }

    pub fn write_turn(&self, id: TurnId, turn: &Turn) {
        self.backend.queue(vec![put_turn(id, turn)]);
    }

    pub fn forget_turn(&self, id: TurnId) {
        let key = record::numbered(id.0);
        self.backend.queue(vec![take(Table::Turns, key)]);
    }

    /// Waits until everything that was changed so far outlives the process.
    pub async fn flushed(&self) -> Result<(), Unwritten> {
        self.backend.flushed().await
    }

    /// Branches remembered.
    pub fn len(&self) -> usize {
        self.branches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// The branch. One that has been out of use for too long is forgotten.
    pub fn branch(&self, id: BranchId) -> Option<Arc<Slot>> {
        let slot = self.kept(id)?;
        let old = self.now().since(slot.used()) > self.bounds.max_age;
        // A lease that cannot be had means a run under way.
        if old && slot.lease.try_lock().is_ok() {
            self.forget(id);
            return None;
        }
        Some(slot)
    }

    /// Remembers a new branch; its lease is held before anybody else can see it.
    pub fn insert(&self, branch: Branch) -> (Arc<Slot>, Lease) {
        let id = BranchId(self.next_branch.fetch_add(1, Ordering::Relaxed));
        let slot = Slot::new(id, branch, self.now());
        let lease = slot
            .lease
            .clone()
            .try_lock_owned()
            .expect("nobody else knows of this lock yet");
        self.branches.insert(id, slot.clone());
        self.touch(&slot);
        (slot, lease)
    }

    /// Forgets a branch, its tips and the handle that leads to it.
    pub fn forget(&self, id: BranchId) {
        let Some((_, slot)) = self.branches.remove(&id) else {
            return;
        };
        let branch = {
            let mut record = slot.lock();
            record.forgotten = true;
            if slot.is_written() {
                let key = record::numbered(id.0);
                self.backend.queue(vec![take(Table::Branches, key)]);
            }
            record.branch.clone()
        };
        for point in branch.passed.iter().chain([&branch.tip]) {
            self.unpoint(*point, id);
        }
        for handle in branch.handles {
            self.drop_handle(&(branch.tenant, handle), id);
        }
    }

    /// The branches that have this transcript as their tip, or had it, newest first.
    pub fn at(&self, point: &Fingerprint) -> Vec<Arc<Slot>> {
        let ids = self.points.get(point).map(|ids| ids.clone());
        ids.unwrap_or_default()
            .into_iter()
            .rev()
            .filter_map(|id| self.branch(id))
            .collect()
    }

    /// Changes a branch's record, but for its tip. Must not wait.
    pub fn change<T>(&self, slot: &Slot, change: impl FnOnce(&mut Branch) -> T) -> T {
        self.change_with(slot, None, change)
    }

    /// As [`Store::change`]; the record of a turn changes with it, or neither does.
    pub fn change_with<T>(
        &self,
        slot: &Slot,
        turn: Option<(TurnId, &Turn)>,
        change: impl FnOnce(&mut Branch) -> T,
    ) -> T {
        let mut record = slot.lock();
        let changed = change(&mut record.branch);
        let mut unit: Vec<Write> = turn
            .map(|(id, turn)| put_turn(id, turn))
            .into_iter()
            .collect();
        let bytes = record::branch(&record.branch, record.used).filter(|_| !record.forgotten);
        let Some(bytes) = bytes else {
            self.backend.queue(unit);
            return changed;
        };
        unit.push(put(Table::Branches, record::numbered(slot.id.0), bytes));
        if slot.written.load(Ordering::Relaxed) {
            self.backend.queue(unit);
            return changed;
        }
        let _links = self.links();
        slot.written.store(true, Ordering::Relaxed);
        for name in &record.branch.handles {
            let key = (record.branch.tenant, name.clone());
            let leads_here = self.handle(&key).filter(|leads| leads.branch == slot.id);
            unit.extend(leads_here.map(|leads| put_handle(&key, leads)));
        }
        self.backend.queue(unit);
        changed
    }

    /// Makes sure that a branch's thread is never posted to again.
    pub fn close(&self, slot: &Slot) {
        self.change(slot, |branch| branch.state = State::Closed);
    }

    /// Changes a branch's record and its tip, and makes its present tip an earlier one.
    pub fn advance(&self, slot: &Slot, change: impl FnOnce(&mut Branch)) {
        let now = self.now();
        slot.lock().used = now;
        let (before, tip, dropped) = self.change(slot, |branch| {
            // That a transcript without messages was passed says nothing: all of them begin so.
            let before = (!branch.window.is_empty()).then_some(branch.tip);
            branch.passed.extend(before);
            change(branch);
            let dropped = (branch.passed.len() > PASSED).then(|| branch.passed.pop_front());
            (before, branch.tip, dropped.flatten())
        });
        if let Some(dropped) = dropped {
            self.unpoint(dropped, slot.id);
        }
        if !self.branches.contains_key(&slot.id) {
            return;
        }
        for point in before.into_iter().chain([tip]) {
            self.point(point, slot.id);
        }
        self.touch(slot);
    }

    pub fn handle(&self, key: &HandleKey) -> Option<HandleRecord> {
        self.handles.get(key).map(|record| *record)
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
        let record = HandleRecord {
            branch: slot.id,
            delta,
        };
        self.lead(&key, record, slot);
        if !self.branches.contains_key(&slot.id) {
            self.drop_handle(&key, slot.id);
        }
    }

    /// Makes a handle lead to this branch unless it leads to one already.
    pub fn claim_handle(&self, handle: &Handle, slot: &Slot, delta: bool) -> bool {
        let key = (slot.look(|branch| branch.tenant), handle.clone());
        let record = HandleRecord {
            branch: slot.id,
            delta,
        };
        if let Some(known) = self.handle(&key)
            && !self.branches.contains_key(&known.branch)
        {
            self.drop_handle(&key, known.branch);
        }
        let claimed = *self.handles.entry(key.clone()).or_insert(record) == record;
        if claimed {
            self.change(slot, |branch| branch.handles.push(handle.clone()));
        }
        claimed
    }

    /// Makes a handle lead to a branch. The backend learns of it no sooner than of the branch: a
    /// conversation whose new thread never came about is still found where it was.
    fn lead(&self, key: &HandleKey, record: HandleRecord, slot: &Slot) {
        let _links = self.links();
        self.handles.insert(key.clone(), record);
        if slot.is_written() {
            self.backend.queue(vec![put_handle(key, record)]);
        }
    }

    fn links(&self) -> MutexGuard<'_, ()> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request on this handle carried an assistant message: from now on each is a whole history.
    pub fn end_delta(&self, key: &HandleKey) {
        if !self.handle(key).is_some_and(|record| record.delta) {
            return;
        }
        let _links = self.links();
        let Some(record) = self.handles.get_mut(key).map(|mut record| {
            record.delta = false;
            *record
        }) else {
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
    fn drop_handle(&self, key: &HandleKey, id: BranchId) {
        let _links = self.links();
        if self
            .handles
            .remove_if(key, |_, record| record.branch == id)
            .is_some()
        {
            let key = record::handle_key(key);
            self.backend.queue(vec![take(Table::Handles, key)]);
        }
    }

    fn kept(&self, id: BranchId) -> Option<Arc<Slot>> {
        self.branches.get(&id).map(|slot| slot.clone())
    }

    fn point(&self, point: Fingerprint, id: BranchId) {
        let mut ids = self.points.entry(point).or_default();
        if !ids.contains(&id) {
            if ids.len() >= BRANCHES_PER_POINT {
                ids.remove(0);
            }
            ids.push(id);
        }
    }

    fn unpoint(&self, point: Fingerprint, id: BranchId) {
        if let Some(mut ids) = self.points.get_mut(&point) {
            ids.retain(|other| *other != id);
        }
        self.points.remove_if(&point, |_, ids| ids.is_empty());
    }

    /// Notes that a branch is used, and makes room for it.
    fn touch(&self, slot: &Slot) {
        let now = self.now();
        slot.lock().used = now;
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.push_back((now, slot.id));
        let mut expired = Vec::new();
        let mut busy = Vec::new();
        while let Some((used, id)) = order.pop_front() {
            match self.kept(id) {
                None => {}
                Some(slot) if slot.used() != used => {}
                Some(slot) => {
                    let remaining = self.branches.len() - expired.len();
                    let old = now.since(used) > self.bounds.max_age;
                    if !old && remaining <= self.bounds.max {
                        order.push_front((used, id));
                        break;
                    }
                    // A lease that cannot be had means a run under way: it is kept.
                    if let Ok(lease) = slot.lease.clone().try_lock_owned() {
                        expired.push((id, lease));
                    } else {
                        busy.push((used, id));
                        if busy.len() == BUSY_PASSED_OVER {
                            break;
                        }
                    }
                }
            }
        }
        for entry in busy.into_iter().rev() {
            order.push_front(entry);
        }
        self.compact(&mut order);
        drop(order);
        // Nobody can claim a branch between the decision to forget it and its end.
        for (id, _lease) in expired {
            self.forget(id);
        }
    }

    /// Drops entries of branches that were used since, once they outnumber the others.
    fn compact(&self, order: &mut VecDeque<(Moment, BranchId)>) {
        if order.len() <= 2 * self.branches.len() + 1024 {
            return;
        }
        order.retain(|(used, id)| self.kept(*id).is_some_and(|slot| slot.used() == *used));
    }
}

fn put(table: Table, key: Vec<u8>, value: Vec<u8>) -> Write {
    let value = Some(value);
    Write { table, key, value }
}

fn put_turn(id: TurnId, turn: &Turn) -> Write {
    put(Table::Turns, record::numbered(id.0), record::turn(turn))
}

fn put_handle(key: &HandleKey, record: HandleRecord) -> Write {
    let value = record::handle_value(record);
    put(Table::Handles, record::handle_key(key), value)
}

fn take(table: Table, key: Vec<u8>) -> Write {
    let value = None;
    Write { table, key, value }
}
