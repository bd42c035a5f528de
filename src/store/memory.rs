//! The records as a concurrent map, bounded by count and age.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::{Branch, BranchId, HandleKey, HandleRecord, Lease, LeaseLock, PASSED};
use crate::ids::{Fingerprint, Handle};

/// How many branches one fingerprint may lead to; the oldest make room.
const BRANCHES_PER_POINT: usize = 32;

/// How many names may lead to one branch; the oldest make room.
const HANDLES_PER_BRANCH: usize = 16;

/// How many busy branches are passed over in the search for one to forget.
const BUSY_PASSED_OVER: usize = 16;

/// Every record of this process.
#[derive(Debug)]
pub struct Store {
    branches: DashMap<BranchId, Arc<Slot>>,
    /// Every tip that is or was, and the branches that have passed it.
    points: DashMap<Fingerprint, Vec<BranchId>>,
    handles: DashMap<HandleKey, HandleRecord>,
    next: AtomicU64,
    /// Branches in the order they were last used; an entry that was used since is passed over.
    order: Mutex<VecDeque<(Instant, BranchId)>>,
    max: usize,
    max_age: Duration,
}

/// A branch's record, and what guards it.
#[derive(Debug)]
pub struct Slot {
    pub id: BranchId,
    pub lease: LeaseLock,
    /// Requests that wait for the lease.
    pub waiting: AtomicUsize,
    record: Mutex<(Branch, Instant)>,
}

impl Slot {
    /// A copy of the record as it is.
    pub fn branch(&self) -> Branch {
        self.lock().0.clone()
    }

    /// Looks at the record without copying it. Must not wait.
    pub fn look<T>(&self, look: impl FnOnce(&Branch) -> T) -> T {
        look(&self.lock().0)
    }

    /// Changes the record. Must not wait.
    pub fn change<T>(&self, change: impl FnOnce(&mut Branch) -> T) -> T {
        change(&mut self.lock().0)
    }

    fn used(&self) -> Instant {
        self.lock().1
    }

    fn lock(&self) -> MutexGuard<'_, (Branch, Instant)> {
        // A panic while a record was changed leaves a whole record: every change is one assignment
        // after another of values that are already made.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    pub fn new(max: usize, max_age: Duration) -> Self {
        Self {
            branches: DashMap::new(),
            points: DashMap::new(),
            handles: DashMap::new(),
            next: AtomicU64::new(0),
            order: Mutex::new(VecDeque::new()),
            max,
            max_age,
        }
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
        let old = Instant::now().saturating_duration_since(slot.used()) > self.max_age;
        // A lease that cannot be had means a run under way.
        if old && slot.lease.try_lock().is_ok() {
            self.forget(id);
            return None;
        }
        Some(slot)
    }

    /// Remembers a new branch; its lease is held before anybody else can see it.
    pub fn insert(&self, branch: Branch) -> (Arc<Slot>, Lease) {
        let id = BranchId(self.next.fetch_add(1, Ordering::Relaxed));
        let lock = LeaseLock::default();
        let lease = lock
            .clone()
            .try_lock_owned()
            .expect("nobody else knows of this lock yet");
        let slot = Arc::new(Slot {
            id,
            lease: lock,
            waiting: AtomicUsize::new(0),
            record: Mutex::new((branch, Instant::now())),
        });
        self.branches.insert(id, slot.clone());
        self.touch(&slot);
        (slot, lease)
    }

    /// Forgets a branch, its tips and the handle that leads to it.
    pub fn forget(&self, id: BranchId) {
        let Some((_, slot)) = self.branches.remove(&id) else {
            return;
        };
        let branch = slot.branch();
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

    /// Makes `tip` the tip of a branch, and its present tip an earlier one.
    pub fn advance(&self, slot: &Slot, change: impl FnOnce(&mut Branch)) {
        let (before, tip, dropped) = slot.change(|branch| {
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
        let (tenant, dropped) = slot.change(|branch| {
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
        self.handles.insert(key.clone(), record);
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
        let claimed = *self.handles.entry(key).or_insert(record) == record;
        if claimed {
            slot.change(|branch| branch.handles.push(handle.clone()));
        }
        claimed
    }

    /// A request on this handle carried an assistant message: from now on each is a whole history.
    pub fn end_delta(&self, key: &HandleKey) {
        if let Some(mut record) = self.handles.get_mut(key) {
            record.delta = false;
        }
    }

    /// Forgets a handle, if it leads to this branch.
    fn drop_handle(&self, key: &HandleKey, id: BranchId) {
        self.handles.remove_if(key, |_, record| record.branch == id);
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
        let now = Instant::now();
        slot.lock().1 = now;
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
                    let old = now.saturating_duration_since(used) > self.max_age;
                    if !old && remaining <= self.max {
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
    fn compact(&self, order: &mut VecDeque<(Instant, BranchId)>) {
        if order.len() <= 2 * self.branches.len() + 1024 {
            return;
        }
        order.retain(|(used, id)| self.kept(*id).is_some_and(|slot| slot.used() == *used));
    }
}
