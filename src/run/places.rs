//! Places among the calls in flight, given out in turn: to tenants, then to their calls.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::ids::Tenant;

/// A bounded number of places. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    free: usize,
    /// Those who wait, each with its calls; no place is free then.
    waiting: HashMap<Tenant, VecDeque<oneshot::Sender<Place>>>,
    /// The one that was served longest ago comes first.
    turns: VecDeque<Tenant>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place(Option<Places>);

impl Places {
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(Line {
            free: count,
            waiting: HashMap::new(),
            turns: VecDeque::new(),
        })))
    }

    /// Waits until it is this tenant's turn. Dropped before, it gives the turn up.
    pub async fn take(&self, tenant: Tenant) -> Place {
        let handed = {
            let mut line = self.line();
            if let Some(left) = line.free.checked_sub(1) {
                line.free = left;
                return Place(Some(self.clone()));
            }
            line.queue(tenant)
        };
        // Whoever gives a place up hands it on, and those who wait hold this.
        handed.await.unwrap_or(Place(None))
    }

    fn give(&self) {
        loop {
            // Let go before the next one is told: it may be gone, and its place comes back here.
            let next = {
                let mut line = self.line();
                let Some(next) = line.next() else {
                    line.free += 1;
                    return;
                };
                next
            };
            match next.send(Place(Some(self.clone()))) {
                Ok(()) => return,
                Err(mut place) => drop(place.0.take()),
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.0.take() {
            places.give();
        }
    }
}

impl Line {
    fn queue(&mut self, tenant: Tenant) -> oneshot::Receiver<Place> {
        let (handing, handed) = oneshot::channel();
        let calls = self.waiting.entry(tenant).or_default();
        if calls.is_empty() {
            self.turns.push_back(tenant);
        }
        // All are as patient, so that those who have given up stand in front.
        while calls.front().is_some_and(oneshot::Sender::is_closed) {
            calls.pop_front();
        }
        calls.push_back(handing);
        handed
    }

    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        let tenant = self.turns.pop_front()?;
        let calls = self.waiting.get_mut(&tenant)?;
        let next = calls.pop_front();
        if calls.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::{sleep, timeout};

    use super::*;

    fn tenant(n: u8) -> Tenant {
        Tenant([n; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_little_does_not_wait_for_whoever_asks_for_much() {
        let places = Places::new(2);
        let served = Arc::new(Mutex::new(Vec::new()));
        let call = |n: u8| {
            let (places, served) = (places.clone(), Arc::clone(&served));
            async move {
                let _place = places.take(tenant(n)).await;
                served.lock().unwrap().push(n);
                sleep(Duration::from_secs(1)).await;
            }
        };
        let much = (0..100).map(|_| call(1));
        let little = [2, 3, 2].map(call);

        let calls = much.chain(little);
        futures_util::future::join_all(calls).await;

        let served = served.lock().unwrap();
        assert_eq!(served[..8], [1, 1, 1, 2, 3, 1, 2, 1]);
        assert_eq!(served.len(), 103);
        assert_eq!(places.line().free, 2);
        assert!(places.line().waiting.is_empty() && places.line().turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_comes_to_nobody_goes_to_the_next() {
        let places = Places::new(1);
        let held = places.take(tenant(1)).await;
        let mut handed = Box::pin(places.take(tenant(2)));
        assert!((&mut handed).now_or_never().is_none());
        for _ in 0..10 {
            let waited = timeout(Duration::from_secs(1), places.take(tenant(1))).await;
            assert!(waited.is_err());
        }
        let mut last = Box::pin(places.take(tenant(3)));
        assert!((&mut last).now_or_never().is_none());

        drop(held);
        // Its place is on its way.
        drop(handed);

        assert!(last.now_or_never().is_some());
        assert_eq!(places.line().free, 1);
    }
}
