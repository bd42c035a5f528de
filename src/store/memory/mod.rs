//! The records as a concurrent map, bounded by count and age, and written through to a backend.

mod handles;
mod order;
mod points;
mod restore;
mod slot;
mod uses;

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashmap::DashMap;

use crate::clock::{Clock, Moment};
use crate::ids::{ByOurs, Fingerprint};
use crate::planted::{Bug, is_planted};
use crate::store::backend::{Backend, Table, Unwritten, Write};
use crate::store::conversations::Conversations;
use crate::store::record::{self, Turn, TurnId};
use crate::store::{Branch, BranchId, HandleHash, Lease, State};

use handles::Handles;
use points::Points;
pub use slot::Slot;
use uses::Uses;

/// In how many parts a map of what is remembered falls: each is made larger by itself, and even where
/// there are millions nobody waits long for that. Of many small ones each would keep a page of its own,
/// in which everything else came and went.
const PARTS: usize = 16;

fn in_parts<K: Eq + Hash, V>(room: usize) -> ByOurs<K, V> {
    DashMap::with_capacity_and_hasher_and_shard_amount(room, Default::default(), PARTS)
}

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
    branches: ByOurs<BranchId, Arc<Slot>>,
    points: Points,
    handles: Handles,
    pub conversations: Conversations,
    /// Held while a handle is made to lead elsewhere and that is queued, so that the backend sees such
    /// changes in their order.
    links: Mutex<()>,
    next_branch: AtomicU64,
    next_turn: AtomicU64,
    order: Mutex<Uses>,
    bounds: Bounds,
}

impl Store {
    pub fn new(bounds: Bounds, clock: Clock, backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            clock,
            branches: in_parts(0),
            points: Points::with_room(0),
            handles: Handles::with_room(0),
            conversations: Conversations::default(),
            links: Mutex::new(()),
            next_branch: AtomicU64::new(0),
            next_turn: AtomicU64::new(0),
            order: Mutex::default(),
            bounds,
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

    /// Whether anything outlives the process.
    pub fn keeps(&self) -> bool {
        self.backend.keeps()
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

    /// As [`Store::flushed`], for what the backend may write in its own time.
    pub async fn flushed_unhurried(&self) -> Result<(), Unwritten> {
        self.backend.flushed_unhurried().await
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
        if old && let Some(_lease) = slot.try_lease() {
            self.forget(id);
            return None;
        }
        Some(slot)
    }

    /// Remembers a new branch; its lease is held before anybody else can see it.
    pub fn insert(&self, branch: Branch) -> (Arc<Slot>, Lease) {
        let id = BranchId(self.next_branch.fetch_add(1, Ordering::Relaxed));
        let slot = Slot::new(id, branch, self.now());
        let lease = slot.try_lease();
        let lease = lease.expect("nobody else knows of this lock yet");
        self.branches.insert(id, slot.clone());
        self.touch(&slot);
        (slot, lease)
    }

    /// Forgets a branch, its tips and the handle that leads to it.
    pub fn forget(&self, id: BranchId) {
        let Some((_, slot)) = self.branches.remove(&id) else {
            return;
        };
        let (branch, spot) = {
            let mut record = slot.lock();
            record.forgotten = true;
            if slot.is_written() {
                self.backend.queue(record.taken(id));
            }
            (record.branch(), record.spot)
        };
        self.order().remove(spot, id);
        for point in branch.passed.iter().chain([&branch.tip]) {
            self.points.remove(*point, id);
        }
        for handle in branch.handles {
            self.drop_handle(&(branch.tenant, handle), id);
        }
    }

    /// The branches that have this transcript as their tip, or had it, newest first.
    pub fn at(&self, point: &Fingerprint) -> Vec<Arc<Slot>> {
        let ids = self.points.at(point);
        ids.into_iter()
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
        let changed = record.change(change);
        if !self.keeps() {
            return changed;
        }
        let mut unit: Vec<Write> = turn
            .map(|(id, turn)| put_turn(id, turn))
            .into_iter()
            .collect();
        let written = record.written(slot.id).filter(|_| !record.forgotten);
        let Some(written) = written else {
            self.backend.queue(unit);
            return changed;
        };
        if slot.is_written() && is_planted(Bug::LosesTips) {
            return changed;
        }
        unit.extend(written);
        if is_planted(Bug::TornUnits) {
            unit.iter()
                .for_each(|write| self.backend.queue(vec![write.clone()]));
            unit.clear();
        }
        if slot.is_written() {
            self.backend.queue(unit);
            return changed;
        }
        let _links = self.links();
        slot.is_now_written();
        let Branch {
            tenant, handles, ..
        } = record.branch();
        for name in handles {
            let hash = HandleHash::of(&(tenant, name));
            let leads = self.handles.leads_to(hash);
            let leads_here = leads.filter(|leads| leads.branch == slot.id);
            unit.extend(leads_here.map(|leads| handles::put_handle(hash, leads)));
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
            let dropped = before.and_then(|point| branch.passed.push(point));
            change(branch);
            (before, branch.tip, dropped)
        });
        if let Some(dropped) = dropped {
            self.points.remove(dropped, slot.id);
        }
        if !self.branches.contains_key(&slot.id) {
            return;
        }
        for point in before.into_iter().chain([tip]) {
            self.points.add(point, slot.id);
        }
        self.touch(slot);
    }

    fn kept(&self, id: BranchId) -> Option<Arc<Slot>> {
        self.branches.get(&id).map(|slot| slot.clone())
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
