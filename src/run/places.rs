//! Places among the calls in flight, given out in turn: to kinds of calls, to tenants, then to their calls.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::ids::Tenant;

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Post,
    Read,
}

/// A bounded number of places, of which neither kind of calls can take all. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    free: usize,
    posts: Line,
    reads: Line,
}

/// Those of one kind who wait: while no place is free, or their kind has all that it may have.
#[derive(Debug)]
struct Line {
    /// How many more places the kind may have.
    left: usize,
    /// Tenants, each with its calls.
    waiting: HashMap<Tenant, VecDeque<oneshot::Sender<Place>>>,
    /// The one that was served longest ago comes first.
    turns: VecDeque<Tenant>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place(Option<(Places, Kind)>);

impl Places {
    /// `count` places, and at most so many `of_each` kind.
    pub fn new(count: usize, of_each: usize) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            free: count,
            posts: Line::new(of_each),
            reads: Line::new(of_each),
        })))
    }

    /// Waits until it is this tenant's turn. Dropped before, it gives the turn up.
    pub async fn take(&self, kind: Kind, tenant: Tenant) -> Place {
        let handed = {
            let mut lines = self.lines();
            if lines.claim(kind) {
                return Place(Some((self.clone(), kind)));
            }
            lines.of(kind).queue(tenant)
        };
        // Whoever gives a place up hands it on, and those who wait hold this.
        handed.await.unwrap_or(Place(None))
    }

    fn give(&self, mut kind: Kind) {
        loop {
            // Let go before the next one is told: it may be gone, and its place comes back here.
            let next = {
                let mut lines = self.lines();
                lines.put_back(kind);
                lines.next()
            };
            let Some((of, next)) = next else { return };
            match next.send(Place(Some((self.clone(), of)))) {
                Ok(()) => return,
                Err(mut place) => drop(place.0.take()),
            }
            kind = of;
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((places, kind)) = self.0.take() {
            places.give(kind);
        }
    }
}

impl Lines {
    fn of(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Post => &mut self.posts,
            Kind::Read => &mut self.reads,
        }
    }

    /// Takes a place where there is one. Nobody of this kind waits then.
    fn claim(&mut self, kind: Kind) -> bool {
        let can = self.free > 0 && self.of(kind).left > 0;
        if can {
            self.free -= 1;
            self.of(kind).left -= 1;
        }
        can
    }

    fn put_back(&mut self, kind: Kind) {
        self.free += 1;
        self.of(kind).left += 1;
    }

    /// Claims a place for the next who waits: of the kind that has fewer places.
    fn next(&mut self) -> Option<(Kind, oneshot::Sender<Place>)> {
        let kinds = if self.posts.left < self.reads.left {
            [Kind::Read, Kind::Post]
        } else {
            [Kind::Post, Kind::Read]
        };
        let kind = kinds
            .into_iter()
            .find(|kind| !self.of(*kind).turns.is_empty() && self.claim(*kind))?;
        let next = self.of(kind).next();
        Some((
            kind,
            next.expect("whoever has a turn has a call that waits"),
        ))
    }
}

impl Line {
    fn new(most: usize) -> Self {
        Self {
            left: most,
            waiting: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

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
    use proptest::prelude::*;
    use tokio::time::{sleep, timeout};

    use super::*;

    fn tenant(n: u8) -> Tenant {
        Tenant([n; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_little_does_not_wait_for_whoever_asks_for_much() {
        let places = Places::new(2, 2);
        let served = Arc::new(Mutex::new(Vec::new()));
        let call = |n: u8| {
            let (places, served) = (places.clone(), Arc::clone(&served));
            async move {
                let _place = places.take(Kind::Read, tenant(n)).await;
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
        assert_eq!(places.lines().free, 2);
        let lines = places.lines();
        assert!(lines.reads.waiting.is_empty() && lines.reads.turns.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_comes_to_nobody_goes_to_the_next() {
        let places = Places::new(1, 1);
        let held = places.take(Kind::Read, tenant(1)).await;
        let mut handed = Box::pin(places.take(Kind::Read, tenant(2)));
        assert!((&mut handed).now_or_never().is_none());
        for _ in 0..10 {
            let waited = timeout(Duration::from_secs(1), places.take(Kind::Read, tenant(1))).await;
            assert!(waited.is_err());
        }
        let mut last = Box::pin(places.take(Kind::Read, tenant(3)));
        assert!((&mut last).now_or_never().is_none());

        drop(held);
        // Its place is on its way.
        drop(handed);

        assert!(last.now_or_never().is_some());
        assert_eq!(places.lines().free, 1);
    }

    #[test]
    fn neither_kind_takes_what_is_kept_for_the_other_and_all_together_no_more_than_there_is() {
        let places = Places::new(8, 5);
        let take = |kind, n| places.take(kind, tenant(n)).now_or_never();
        let mut posts: Vec<Place> = (0..5).filter_map(|n| take(Kind::Post, n)).collect();
        assert_eq!(posts.len(), 5);
        let mut sixth = Box::pin(places.take(Kind::Post, tenant(5)));
        assert!((&mut sixth).now_or_never().is_none());
        let reads: Vec<Place> = (0..3).filter_map(|n| take(Kind::Read, n)).collect();
        assert_eq!(reads.len(), 3);
        let mut fourth = Box::pin(places.take(Kind::Read, tenant(3)));
        assert!((&mut fourth).now_or_never().is_none());

        posts.pop();
        // Of those who wait the kind with fewer places is next.
        assert!((&mut sixth).now_or_never().is_none());
        let fourth = (&mut fourth).now_or_never();
        assert!(fourth.is_some());
        posts.pop();
        assert!(sixth.now_or_never().is_some());
        drop((posts, reads, fourth));

        let lines = places.lines();
        assert_eq!((lines.free, lines.posts.left, lines.reads.left), (8, 5, 5));
    }

    proptest! {
        #[test]
        fn no_place_is_lost_or_given_twice(
            (count, of_each) in (1..6_usize, 1..6_usize),
            steps in prop::collection::vec((any::<bool>(), 0..3_u8, 0..4_u8), 1..200),
        ) {
            let places = Places::new(count, of_each);
            let mut waiting = VecDeque::new();
            let mut held: Vec<(Kind, Place)> = Vec::new();
            for (is_post, n, step) in steps {
                let kind = if is_post { Kind::Post } else { Kind::Read };
                match step {
                    // Somebody asks, gives a place back, or goes away.
                    0 | 1 => waiting.push_back((kind, Box::pin(places.take(kind, tenant(n))))),
                    2 if !held.is_empty() => drop(held.remove(usize::from(n) % held.len())),
                    _ => drop(waiting.pop_front()),
                }
                for _ in 0..waiting.len() {
                    let (kind, mut asked) = waiting.pop_front().unwrap();
                    match (&mut asked).now_or_never() {
                        Some(place) => held.push((kind, place)),
                        None => waiting.push_back((kind, asked)),
                    }
                }
                let has = |wanted| held.iter().filter(|(kind, _)| *kind == wanted).count();
                let [posts, reads] = [Kind::Post, Kind::Read].map(has);
                prop_assert!(held.len() <= count && posts <= of_each && reads <= of_each);
                for (kind, _) in &waiting {
                    let own = has(*kind);
                    prop_assert!(held.len() == count || own == of_each, "one waits for nothing");
                }
            }
            drop((held, waiting));
            let lines = places.lines();
            let left = (lines.free, lines.posts.left, lines.reads.left);
            prop_assert_eq!(left, (count, of_each, of_each));
        }
    }
}
