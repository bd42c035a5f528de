//! A bounded number of places, divided fairly between tenants.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use tokio::sync::Notify;

use super::Error;
use super::live::Shared;
use crate::conversation::resolve::Hashes;
use crate::conversation::{Decision, Turn};
use crate::ids::Tenant;
use crate::metrics::Shed;

/// A tenant may hold so many times what is free: alone it gets four fifths of all places, unless the
/// limit of each is lower; of many each gets the same, and some are always free for whoever holds none.
const OF_FREE: usize = 4;

/// Bytes of text that count as one place more.
const HEAVY: u64 = 256 * 1024;

/// Places to be taken. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    per_tenant: usize,
    taken: Mutex<Taken>,
    /// Some were given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by: HashMap<Tenant, usize, RandomState>,
}

/// What somebody holds, until it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    tenant: Tenant,
    /// Changed only while what is taken is locked.
    places: AtomicUsize,
}

/// Why nothing could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The tenant holds its share.
    Tenant,
    /// Others hold what there is.
    All,
}

impl Shares {
    pub fn new(max: usize, per_tenant: usize) -> Self {
        Self(Arc::new(Inner {
            max,
            per_tenant: per_tenant.min(max),
            taken: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// One place, and more of them for a text of many bytes.
    pub fn take(&self, tenant: Tenant, bytes: u64) -> Result<Share, Full> {
        let Inner {
            max, per_tenant, ..
        } = *self.0;
        // Whoever alone is too heavy still gets a turn.
        let places = places(bytes).min(per_tenant);
        let mut taken = self.taken();
        let own = taken.by.get(&tenant).copied().unwrap_or(0);
        let free = max.saturating_sub(taken.in_all);
        let is_within_limit = own + places <= per_tenant;
        let is_within_share = own < OF_FREE.saturating_mul(free);
        let is_room = places <= free;
        if !(is_within_limit && is_within_share && is_room) {
            let holds_its_part = own * taken.by.len() >= max;
            let is_its_own_doing = holds_its_part || !is_within_limit || is_room;
            return Err(if own > 0 && is_its_own_doing {
                Full::Tenant
            } else {
                Full::All
            });
        }
        taken.in_all += places;
        *taken.by.entry(tenant).or_default() += places;
        drop(taken);
        Ok(Share {
            of: self.clone(),
            tenant,
            places: places.into(),
        })
    }

    /// As [`Shares::take`], once there is room.
    pub async fn wait(&self, tenant: Tenant, bytes: u64) -> Share {
        loop {
            let mut freed = pin!(self.0.freed.notified());
            freed.as_mut().enable();
            if let Ok(share) = self.take(tenant, bytes) {
                return share;
            }
            freed.await;
        }
    }

    /// A place for work that was taken on long ago, whatever others hold.
    pub fn take_anyway(&self, tenant: Tenant) -> Share {
        let mut taken = self.taken();
        taken.in_all += 1;
        *taken.by.entry(tenant).or_default() += 1;
        drop(taken);
        Share {
            of: self.clone(),
            tenant,
            places: 1.into(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Gives back what a text of so many bytes does not need.
    pub fn shrink_to(&self, bytes: u64) {
        self.keep(places(bytes));
    }

    fn keep(&self, most: usize) {
        let mut taken = self.of.taken();
        let places = self.places.fetch_min(most, Ordering::Relaxed);
        let back = places.saturating_sub(most);
        taken.in_all = taken.in_all.saturating_sub(back);
        let left = taken.by.get_mut(&self.tenant).map_or(0, |own| {
            *own = own.saturating_sub(back);
            *own
        });
        if left == 0 {
            taken.by.remove(&self.tenant);
        }
        drop(taken);
        if back > 0 {
            self.of.0.freed.notify_waiters();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.keep(0);
    }
}

impl Shared {
    /// A place among the runs; a side call that is answered here needs none.
    pub fn share(&self, turn: &Turn, hashes: &Hashes) -> Result<Option<Share>, Error> {
        let full = match self.active.take(turn.caller.tenant, weight(turn)) {
            Ok(share) => return Ok(Some(share)),
            Err(full) => full,
        };
        if let Ok((Decision::Local, ..)) = self.resolver.preview(turn, hashes) {
            return Ok(None);
        }
        self.metrics.shed(match full {
            Full::Tenant => Shed::Key,
            Full::All => Shed::All,
        });
        Err(full.into())
    }
}

/// The bytes of a turn's text.
pub fn weight(turn: &Turn) -> u64 {
    let messages = turn.history.iter().chain(&turn.prompt);
    let texts: usize = messages.map(|message| message.text.size()).sum();
    let form = turn.form.as_ref().map_or(0, |form| form.block().len());
    (texts + form) as u64
}

fn places(bytes: u64) -> usize {
    usize::try_from(bytes / HEAVY)
        .unwrap_or(usize::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(n: u8) -> Tenant {
        Tenant([n; 32])
    }

    /// As many as this tenant gets, at one place each.
    fn all(shares: &Shares, n: u8) -> (Vec<Share>, Full) {
        let mut held = Vec::new();
        loop {
            match shares.take(tenant(n), 0) {
                Ok(share) => held.push(share),
                Err(full) => return (held, full),
            }
        }
    }

    #[test]
    fn one_alone_gets_four_fifths_and_is_told_that_this_is_its_share() {
        let (held, full) = all(&Shares::new(1000, 1000), 1);

        assert_eq!((held.len(), full), (800, Full::Tenant));
    }

    #[test]
    fn a_tenant_gets_no_more_than_the_limit_of_each() {
        let (held, full) = all(&Shares::new(1000, 300), 1);

        assert_eq!((held.len(), full), (300, Full::Tenant));
    }

    #[test]
    fn whoever_floods_leaves_room_for_others_and_shrinks_to_their_size() {
        let shares = Shares::new(1000, 1000);
        let (mut hog, _) = all(&shares, 1);
        let (mut other, _) = all(&shares, 2);
        assert_eq!(
            other.len(),
            160,
            "at once, while the first holds all it got"
        );

        // The first's places come free one by one, and both ask at each.
        for _ in 0..1000 {
            hog.pop();
            hog.extend(shares.take(tenant(1), 0).ok());
            other.extend(shares.take(tenant(2), 0).ok());
        }

        let held = (hog.len(), other.len());
        assert!(
            held.0.abs_diff(held.1) < 5 && held.1 >= 440,
            "{held:?} of a fair 444 each"
        );
    }

    #[test]
    fn a_hundred_tenants_get_places_while_all_of_them_flood() {
        let shares = Shares::new(1000, 1000);
        let mut held: Vec<Vec<Share>> = (0..100).map(|_| Vec::new()).collect();
        for round in 0..20_000_usize {
            let n = round % 100;
            if held[n].len() > 1 && round % 7 == 0 {
                held[n].pop();
            }
            held[n].extend(shares.take(tenant(n as u8), 0).ok());
        }

        let least = held.iter().map(Vec::len).min().unwrap();
        let most = held.iter().map(Vec::len).max().unwrap();
        assert!(least >= 8 && most <= 12, "{least} to {most} of a fair 10");
    }

    #[test]
    fn who_finds_all_places_taken_by_others_is_told_so() {
        let shares = Shares::new(1, 1);
        let held = shares.take(tenant(1), 0).unwrap();

        assert_eq!(shares.take(tenant(2), 0).unwrap_err(), Full::All);
        assert_eq!(shares.take(tenant(1), 0).unwrap_err(), Full::Tenant);
        drop(held);
        assert!(shares.take(tenant(2), 0).is_ok());
    }

    #[test]
    fn long_texts_weigh_more_and_the_longest_still_gets_a_turn() {
        let shares = Shares::new(100, 50);

        let long = shares.take(tenant(1), 10 << 20).unwrap();
        let longest = shares.take(tenant(2), u64::MAX).unwrap();

        let places = |share: &Share| share.places.load(Ordering::Relaxed);
        assert_eq!((places(&long), places(&longest)), (41, 50));
        assert_eq!(shares.take(tenant(1), 10 << 20).unwrap_err(), Full::Tenant);
        assert_eq!(shares.take(tenant(3), 10 << 20).unwrap_err(), Full::All);
    }

    proptest! {
        #[test]
        fn no_bound_is_passed_and_all_comes_back(
            asks in prop::collection::vec((0..5_u8, 0..2_000_000_u64, any::<bool>()), 1..200),
            (max, per_tenant) in (1..50_usize, 1..50_usize),
        ) {
            let shares = Shares::new(max, per_tenant);
            let mut held = Vec::new();
            for (n, bytes, goes) in asks {
                held.extend(shares.take(tenant(n), bytes).ok());
                if goes && !held.is_empty() {
                    held.remove(0);
                }
                let taken = shares.taken();
                prop_assert!(taken.in_all <= max);
                prop_assert!(taken.by.values().all(|own| *own <= per_tenant.min(max)));
                prop_assert_eq!(taken.by.values().sum::<usize>(), taken.in_all);
            }
            held.clear();
            prop_assert_eq!(shares.taken().in_all, 0);
            prop_assert!(shares.taken().by.is_empty());
            prop_assert!(shares.take(tenant(1), u64::MAX).is_ok());
        }
    }
}
