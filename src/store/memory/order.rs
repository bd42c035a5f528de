//! Branches in the order of their last use: who makes room, and who is looked at no more for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Slot, Store};
use crate::clock::Moment;
use crate::store::{BranchId, Lease};

/// How many busy branches are passed over in the search for one to forget.
const BUSY_PASSED_OVER: usize = 128;

/// How many branches one that is used makes room for at most: they may all have grown old at once.
const EVICTED_AT_ONCE: usize = 128;

/// How many of the branches that were used last are kept as they are quickest to look at. One that
/// rests is read out of its line several times in a turn, and takes a third of the space.
const AWAKE: usize = 1024;

/// The uses of branches, numbered: several may fall into one moment.
#[derive(Debug, Default)]
pub struct Order {
    /// Each branch once, under the number of its last use.
    last: BTreeMap<u64, BranchId>,
    next: u64,
    /// The last uses of all.
    recent: VecDeque<(u64, BranchId)>,
}

impl Order {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes that a branch is used, unless it is forgotten.
    fn put_last(&mut self, slot: &Slot, now: Moment) {
        let number = self.number();
        let mut record = slot.lock();
        if record.forgotten {
            return;
        }
        self.last.remove(&record.last);
        (record.used, record.last) = (now, number);
        record.wake();
        drop(record);
        self.last.insert(number, slot.id);
        self.recent.push_back((number, slot.id));
    }

    /// A use that is long enough past, if there is one.
    fn past(&mut self) -> Option<(u64, BranchId)> {
        let excess = self.recent.len() > AWAKE;
        excess.then(|| self.recent.pop_front()).flatten()
    }

    pub fn remove(&mut self, number: u64) {
        self.last.remove(&number);
    }

    /// In the order that they are given in, behind all others.
    pub fn restore(&mut self, slots: impl IntoIterator<Item = Arc<Slot>>) {
        let first = self.next + 1;
        let numbered = (first..).zip(slots).map(|(number, slot)| {
            slot.lock().last = number;
            (number, slot.id)
        });
        // Filled in one go its nodes are full.
        let mut restored: BTreeMap<u64, BranchId> = numbered.collect();
        self.next += restored.len() as u64;
        self.last.append(&mut restored);
    }
}

impl Store {
    /// Notes that a branch is used, and makes room for it.
    pub fn touch(&self, slot: &Slot) {
        let now = self.now();
        let mut order = self.order();
        order.put_last(slot, now);
        let past = order.past();
        let expired = self.expired(&mut order, now);
        drop(order);
        if let Some((number, id)) = past
            && let Some(slot) = self.kept(id)
        {
            let mut record = slot.lock();
            if record.last == number {
                record.rest();
            }
        }
        // Nobody can claim a branch between the decision to forget it and its end.
        for (id, _lease) in expired {
            self.forget(id);
        }
    }

    pub fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out of the order what is too old, or too much, with the leases of those branches. What is
    /// left to do is done at the next uses: nobody waits long for room.
    fn expired(&self, order: &mut Order, now: Moment) -> Vec<(BranchId, Lease)> {
        let mut expired = Vec::new();
        let mut numbers = Vec::new();
        let mut busy = Vec::new();
        for (number, id) in &order.last {
            if expired.len() == EVICTED_AT_ONCE || busy.len() == BUSY_PASSED_OVER {
                break;
            }
            let Some(slot) = self.kept(*id) else {
                numbers.push(*number);
                continue;
            };
            let remaining = self.branches.len().saturating_sub(expired.len());
            let old = now.since(slot.used()) > self.bounds.max_age;
            if !old && remaining <= self.bounds.max {
                break;
            }
            // A lease that cannot be had means a run under way: it is kept.
            if let Ok(lease) = slot.lease.clone().try_lock_owned() {
                numbers.push(*number);
                expired.push((*id, lease));
            } else {
                busy.push(slot);
            }
        }
        numbers.into_iter().for_each(|number| order.remove(number));
        if busy.len() == BUSY_PASSED_OVER {
            // They are looked at again once the others have been.
            for slot in busy {
                let number = order.number();
                let before = std::mem::replace(&mut slot.lock().last, number);
                order.remove(before);
                order.last.insert(number, slot.id);
            }
        }
        expired
    }
}
