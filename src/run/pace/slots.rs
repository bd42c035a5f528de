//! When polls are planned already: of many that would come together, each goes where fewer are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Slots to an interval.
const PARTS: u32 = 16;

/// So many slots are looked ahead; beyond them nothing is crowded.
const SLOTS: usize = 128;

/// A poll may move by so many slots, half an interval, either way.
const REACH: u64 = 8;

/// A slot is crowded that holds so many quarters of what its neighbours do, and a few more.
const QUARTERS: u32 = 6;
const FEW: u32 = 4;

/// How many polls are planned for each part of the time to come.
#[derive(Debug)]
pub struct Slots {
    width: Duration,
    since: Instant,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// The number of the slot that it is now.
    now: u64,
    /// From that one on, round about.
    counts: [u32; SLOTS],
}

impl Slots {
    pub fn new(interval: Duration) -> Self {
        Self {
            width: (interval / PARTS).max(Duration::from_millis(1)),
            since: Instant::now(),
            ring: Mutex::new(Ring {
                now: 0,
                counts: [0; SLOTS],
            }),
        }
    }

    /// The wait for a poll that is wanted after `wait`, and that may not come before `least`.
    pub fn place(&self, wait: Duration, least: Duration) -> Duration {
        let now = self.since.elapsed();
        let slot = |at: Duration| (at.as_nanos() / self.width.as_nanos()) as u64;
        let wanted = slot(now + wait);
        let mut ring = self.ring();
        ring.turn_to(slot(now));
        let chosen = match ring.is_crowded(wanted) {
            true => ring.emptiest(wanted, slot(now + least) + 1),
            false => wanted,
        };
        ring.add(chosen);
        drop(ring);
        if chosen >= wanted {
            wait + self.width * (chosen - wanted) as u32
        } else {
            wait.saturating_sub(self.width * (wanted - chosen) as u32)
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Forgets the slots that have passed.
    fn turn_to(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now).min(SLOTS as u64);
        for slot in self.now..self.now + passed {
            if let Some(count) = self.slot(slot) {
                *count = 0;
            }
        }
        self.now = self.now.max(now);
    }

    fn slot(&mut self, slot: u64) -> Option<&mut u32> {
        self.counts.get_mut((slot % SLOTS as u64) as usize)
    }

    /// `None` beyond what is looked at.
    fn count(&self, slot: u64) -> Option<u32> {
        if !(self.now..self.now + SLOTS as u64).contains(&slot) {
            return None;
        }
        self.counts.get((slot % SLOTS as u64) as usize).copied()
    }

    fn around(&self, slot: u64) -> impl Iterator<Item = (u64, u32)> {
        let slots = slot.saturating_sub(REACH)..=slot + REACH;
        slots.filter_map(|slot| Some((slot, self.count(slot)?)))
    }

    fn is_crowded(&self, slot: u64) -> bool {
        let Some(here) = self.count(slot).filter(|count| *count > FEW) else {
            return false;
        };
        let (sum, slots) = self
            .around(slot)
            .fold((0, 0), |(sum, slots), (_, count)| (sum + count, slots + 1));
        (here - FEW) * 4 * slots > sum * QUARTERS
    }

    /// The one that is nearest, of those with the fewest.
    fn emptiest(&self, slot: u64, least: u64) -> u64 {
        let within = self.around(slot).filter(|(near, _)| *near >= least);
        let fewest = within.min_by_key(|(near, count)| (*count, near.abs_diff(slot)));
        fewest.map_or(slot, |(near, _)| near)
    }

    fn add(&mut self, slot: u64) {
        if self.count(slot).is_some()
            && let Some(count) = self.slot(slot)
        {
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn polls_that_are_wanted_at_one_time_are_spread_around_it() {
        let slots = Slots::new(3 * SECOND);

        let waits: Vec<f64> = (0..1000)
            .map(|_| slots.place(3 * SECOND, 2 * SECOND).as_secs_f64())
            .collect();

        let within = |from: f64, to: f64| {
            let waits = waits.iter().filter(|wait| (from..to).contains(*wait));
            waits.count()
        };
        assert!(waits.iter().all(|wait| (2.0..4.6).contains(wait)));
        let even = [within(2.0, 2.8), within(2.8, 3.6), within(3.6, 4.4)];
        assert!(
            even.iter().all(|count| (250..400).contains(count)),
            "{even:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn polls_that_are_spread_already_come_when_they_are_wanted() {
        let slots = Slots::new(3 * SECOND);

        for n in 0..5000_u32 {
            advance(SECOND / 100).await;
            let wait = 2 * SECOND + SECOND / 50 * (n * 37 % 100);

            let placed = slots.place(wait, 2 * SECOND);
            assert!(
                placed == wait || n < 500,
                "{placed:?} for {wait:?}, as number {n}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_far_ahead_is_left_where_it_is() {
        let slots = Slots::new(3 * SECOND);

        for _ in 0..100 {
            assert_eq!(slots.place(60 * SECOND, SECOND), 60 * SECOND);
        }
    }
}
