//! The records as a concurrent map, bounded by count and age, and written through to a backend.

mod handles;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use crate::clock::{Clock, Moment};
use crate::ids::Fingerprint;
use crate::planted::{Bug, is_planted};
use crate::store::backend::{Backend, Table, Unwritten, Write};
use crate::store::conversations::Conversations;
use crate::store::record::{self, Turn, TurnId};
use crate::store::{Branch, BranchId, HandleKey, HandleRecord, Lease, LeaseLock, PASSED, State};

/// How many branches one fingerprint may lead to; the oldest make room.
const BRANCHES_PER_POINT: usize = 32;

/// How many busy branches are passed over in the search for one to forget.
const BUSY_PASSED_OVER: usize = 1024;

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
    pub backend: Arc<dyn Backend>,
    clock: Clock,
    branches: DashMap<BranchId, Arc<Slot>>,
    /// Every tip that is or was, and the branches that have passed it.
    points: DashMap<Fingerprint, Vec<BranchId>>,
    handles: DashMap<HandleKey, HandleRecord>,
    pub conversations: Conversations,
    /// Held while a handle is made to lead elsewhere and that is queued, so that the backend sees such
    /// changes in their order.
    links: Mutex<()>,
    next_branch: AtomicU64,
    next_turn: AtomicU64,
    /// Branches in the order they were last used; an entry that was used since is passed over.
    order: Mutex<VecDeque<Use>>,
    /// Numbers the uses: several may fall into one moment.
    next_use: AtomicU64,
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
    /// The number of its last use.
    last: u64,
    forgotten: bool,
}

/// That a branch was used.
#[derive(Clone, Copy, Debug)]
struct Use {
    number: u64,
    at: Moment,
    branch: BranchId,
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
                last: 0,
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

    fn last_use(&self) -> u64 {
        self.lock().last
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
            conversations: Conversations::default(),
            links: Mutex::new(()),
            next_branch: AtomicU64::new(0),
            next_turn: AtomicU64::new(0),
            order: Mutex::new(VecDeque::new()),
            next_use: AtomicU64::new(1),
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
            let number = self.next_use.fetch_add(1, Ordering::Relaxed);
            slot.lock().last = number;
            self.branches.insert(id, slot);
            order.push_back(Use {
                number,
                at: used,
                branch: id,
            });
        }
        drop(order);
        for (key, leads) in handles {
            if self.branches.contains_key(&leads.branch) {
                self.handles.insert(key, leads);
            } else {
                let key = record::handle_key(&key);
                self.backend.queue(vec![take(Table::Handles, key)]);
            }
        }
    }

    /// Makes the ids of turns go on beyond this one.
    pub fn passed_turn(&self, id: TurnId) {
        self.next_turn.fetch_max(id.0 + 1, Ordering::Relaxed);
    }

    pub fn bounds(&self) -> Bounds {
        self.bounds
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

    /// Whether what is begun from here on may not be remembered to its end.
    pub fn is_degraded(&self) -> bool {
        self.backend.is_degraded()
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
        if old && let Ok(_lease) = slot.lease.clone().try_lock_owned() {
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
        if slot.is_written() && is_planted(Bug::LosesTips) {
            return changed;
        }
        unit.push(put(Table::Branches, record::numbered(slot.id.0), bytes));
        if is_planted(Bug::TornUnits) {
            unit.iter()
                .for_each(|write| self.backend.queue(vec![write.clone()]));
            unit.clear();
        }
        if slot.written.load(Ordering::Relaxed) {
            self.backend.queue(unit);
            return changed;
        }
        let _links = self.links();
        slot.written.store(true, Ordering::Relaxed);
        for name in &record.branch.handles {
            let key = (record.branch.tenant, name.clone());
            let leads_here = self.handle(&key).filter(|leads| leads.branch == slot.id);
            unit.extend(leads_here.map(|leads| handles::put_handle(&key, leads)));
        }
        self.backend.queue(unit);
        changed
    }

    /// Makes sure that a branch's thread is never posted to again.
    pub fn close(&self, slot: &Slot) {
        self.change(slot, |branch| branch.state = State::Closed);
    }

    /// Changes a branch's record and its tip, and makes its present tip an earlier one. The record of a
    /// turn changes with it, or neither does.
    pub fn advance(
        &self,
        slot: &Slot,
        turn: Option<(TurnId, &Turn)>,
        change: impl FnOnce(&mut Branch),
    ) {
        let now = self.now();
        slot.lock().used = now;
        let (before, tip, dropped) = self.change_with(slot, turn, |branch| {
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
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let number = self.next_use.fetch_add(1, Ordering::Relaxed);
        let mut record = slot.lock();
        (record.used, record.last) = (now, number);
        drop(record);
        order.push_back(Use {
            number,
            at: now,
            branch: slot.id,
        });
        let expired = self.expired(&mut order, now);
        self.compact(&mut order);
        drop(order);
        // Nobody can claim a branch between the decision to forget it and its end.
        for (id, _lease) in expired {
            self.forget(id);
        }
    }

    /// Takes out of the order what is too old, or too much, with the leases of those branches.
    fn expired(&self, order: &mut VecDeque<Use>, now: Moment) -> Vec<(BranchId, Lease)> {
        let mut expired = Vec::new();
        let mut busy = Vec::new();
        while let Some(oldest) = order.pop_front() {
            let Some(slot) = self.kept(oldest.branch) else {
                continue;
            };
            if slot.last_use() != oldest.number {
                continue;
            }
            let remaining = self.branches.len().saturating_sub(expired.len());
            let old = now.since(oldest.at) > self.bounds.max_age;
            if !old && remaining <= self.bounds.max {
                order.push_front(oldest);
                break;
            }
            // A lease that cannot be had means a run under way: it is kept.
            if let Ok(lease) = slot.lease.clone().try_lock_owned() {
                expired.push((oldest.branch, lease));
            } else {
                busy.push(oldest);
                if busy.len() == BUSY_PASSED_OVER {
                    break;
                }
            }
        }
        if busy.len() == BUSY_PASSED_OVER {
            // They are looked at again once the others have been.
            order.extend(busy);
        } else {
            busy.into_iter()
                .rev()
                .for_each(|used| order.push_front(used));
        }
        expired
    }

    /// Drops entries of branches that were used since, once they outnumber the others.
    fn compact(&self, order: &mut VecDeque<Use>) {
        if order.len() <= 2 * self.branches.len() + 1024 {
            return;
        }
        order.retain(|used| {
            let slot = self.kept(used.branch);
            slot.is_some_and(|slot| slot.last_use() == used.number)
        });
    }
}

pub fn put(table: Table, key: Vec<u8>, value: Vec<u8>) -> Write {
    let value = Some(value);
    Write { table, key, value }
}

fn put_turn(id: TurnId, turn: &Turn) -> Write {
    put(Table::Turns, record::numbered(id.0), record::turn(turn))
}

pub fn take(table: Table, key: Vec<u8>) -> Write {
    let value = None;
    Write { table, key, value }
}
