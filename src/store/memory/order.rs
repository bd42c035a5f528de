//! What the order of their last use decides of branches: who makes room, and who rests.

use std::iter;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::yield_now;

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

/// How many are put to rest in one go where time has passed.
const SETTLED_AT_ONCE: usize = 64;

/// After how long without use they rest, however few they are.
const QUIET: Duration = Duration::from_secs(10);

impl Store {
    /// Notes that a branch is used, and makes room for it.
    pub fn touch(&self, slot: &Slot) {
        let now = self.now();
        let mut order = self.order();
        slot.lock().use_now(&mut order, slot.id, now);
        let past: Vec<BranchId> = iter::from_fn(|| past(&mut order)).collect();
        let expired = self.expired(&mut order, now);
        drop(order);
        for slot in past.into_iter().filter_map(|id| self.kept(id)) {
            slot.lock().rest();
        }
        // Nobody can claim a branch between the decision to forget it and its end.
        for (id, _lease) in expired {
            self.forget(id);
        }
    }

    /// Has those rest that have not been used for a while, and lets others go on meanwhile.
    pub async fn settle(&self) {
        let now = self.now();
        let mut left = self.order().awake();
        while left > 0 && (0..SETTLED_AT_ONCE).all(|_| self.settle_first(now)) {
            left = left.saturating_sub(SETTLED_AT_ONCE);
            yield_now().await;
        }
    }

    /// Whether the first that is awake was not used for a while, and so rests from here on.
    fn settle_first(&self, now: Moment) -> bool {
        let mut order = self.order();
        let Some(first) = order.first_awake() else {
            return false;
        };
        let slot = self.kept(first);
        let mut record = slot.as_deref().map(Slot::lock);
        if let Some(record) = &record
            && now.since(record.used) < QUIET
        {
            return false;
        }
        order.rest_first();
        if let Some(record) = &mut record {
            record.rest();
        }
        true
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
        for (spot, id) in order.iter() {
            if expired.len() == EVICTED_AT_ONCE || busy.len() == BUSY_PASSED_OVER {
                break;
            }
            let Some(slot) = self.kept(id) else {
                gone.push((spot, id));
                continue;
            };
            let remaining = self.branches.len().saturating_sub(expired.len());
            let old = now.since(slot.used()) > self.bounds.max_age;
            if !old && remaining <= self.bounds.max {
                break;
            }
            // A lease that cannot be had means a run under way: it is kept.
            if let Some(lease) = slot.try_lease() {
                gone.push((spot, id));
                expired.push((id, lease));
            } else {
                busy.push(slot);
            }
        }
        for (spot, id) in gone {
            order.remove(spot, id);
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
        store.settle().await;
        assert_eq!(rest([&one, &other, &last]), [false; 3]);
        advance(Duration::from_secs(1)).await;
        store.settle().await;
        assert_eq!(rest([&one, &other, &last]), [false, true, false]);
        advance(QUIET).await;
        store.settle().await;
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
