//! What the order of their last use decides of branches: who makes room, and who rests.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::uses::Uses;
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

/// How many are put to rest when one is used: busy ones that were passed over may have been woken.
const RESTED_AT_ONCE: usize = 2;

/// After how long without use they rest, however few they are.
const QUIET: Duration = Duration::from_secs(10);

impl Store {
    /// Notes that a branch is used, and makes room for it.
    pub fn touch(&self, slot: &Slot) {
        let now = self.now();
        let mut order = self.order();
        slot.lock().use_now(&mut order, slot.id, now);
        let past = [(); RESTED_AT_ONCE].map(|()| past(&mut order));
        let expired = self.expired(&mut order, now);
        drop(order);
        for slot in past.into_iter().flatten().filter_map(|id| self.kept(id)) {
            slot.lock().rest();
        }
        // Nobody can claim a branch between the decision to forget it and its end.
        for (id, _lease) in expired {
            self.forget(id);
        }
    }

    /// Has those rest that have not been used for a while.
    pub fn settle(&self) {
        let now = self.now();
        loop {
            let mut order = self.order();
            let Some(first) = order.first_awake() else {
                return;
            };
            let slot = self.kept(first);
            let used = slot.as_ref().map(|slot| slot.used());
            if used.is_some_and(|used| now.since(used) < QUIET) {
                return;
            }
            order.rest_first();
            drop(order);
            if let Some(slot) = slot {
                slot.lock().rest();
            }
        }
    }

    pub fn order(&self) -> MutexGuard<'_, Uses> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out of the order what is too old, or too much, with the leases of those branches. What is
    /// left to do is done at the next uses: nobody waits long for room.
    fn expired(&self, order: &mut Uses, now: Moment) -> Vec<(BranchId, Lease)> {
        let mut expired = Vec::new();
        let mut gone = Vec::new();
        let mut busy = Vec::new();
        for (seat, id) in order.iter() {
            if expired.len() == EVICTED_AT_ONCE || busy.len() == BUSY_PASSED_OVER {
                break;
            }
            let Some(slot) = self.kept(id) else {
                gone.push((seat, id));
                continue;
            };
            let remaining = self.branches.len().saturating_sub(expired.len());
            let old = now.since(slot.used()) > self.bounds.max_age;
            if !old && remaining <= self.bounds.max {
                break;
            }
            // A lease that cannot be had means a run under way: it is kept.
            if let Some(lease) = slot.try_lease() {
                gone.push((seat, id));
                expired.push((id, lease));
            } else {
                busy.push(slot);
            }
        }
        for (seat, id) in gone {
            order.remove(seat, id);
        }
        if busy.len() == BUSY_PASSED_OVER {
            // They are looked at again once the others have been.
            for slot in busy {
                slot.lock().put_last(order, slot.id);
            }
        }
        expired
    }
}

/// One that was not used as lately as enough others. A use that comes before it rests leaves it resting:
/// the use after that wakes it.
fn past(order: &mut Uses) -> Option<BranchId> {
    let excess = order.awake() > AWAKE;
    excess.then(|| order.rest_first()).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;
    use crate::clock::Clock;
    use crate::store::Bounds;
    use crate::store::backend::Nowhere;
    use crate::store::memory::slot::tests::branch;

    fn store() -> Store {
        let bounds = Bounds {
            max: 10_000,
            max_age: Duration::from_secs(3600),
        };
        Store::new(bounds, Clock::at(Moment(0)), Arc::new(Nowhere))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_for_a_while_rests() {
        let store = store();
        let rest = |slots: [&Slot; 3]| slots.map(|slot| slot.lock().rests());
        let [(one, _), (other, _)] = [(); 2].map(|()| store.insert(branch()));
        advance(QUIET / 2).await;
        let (last, _) = store.insert(branch());
        store.touch(&one);

        advance(QUIET / 2 - Duration::from_secs(1)).await;
        store.settle();
        assert_eq!(rest([&one, &other, &last]), [false; 3]);
        advance(Duration::from_secs(1)).await;
        store.settle();
        assert_eq!(rest([&one, &other, &last]), [false, true, false]);
        advance(QUIET).await;
        store.settle();
        assert_eq!(rest([&one, &other, &last]), [true; 3]);
        store.touch(&other);
        assert_eq!(rest([&one, &other, &last]), [true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_those_rest_that_were_used_first() {
        let store = store();
        let slots: Vec<_> = (0..=AWAKE).map(|_| store.insert(branch()).0).collect();

        let resting = slots.iter().filter(|slot| slot.lock().rests());
        let resting: Vec<BranchId> = resting.map(|slot| slot.id).collect();
        assert_eq!(resting, [slots[0].id]);
    }
}
