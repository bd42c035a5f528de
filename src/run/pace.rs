//! When to poll.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Pace as Settings, Strategy};
use crate::planted::{Bug, is_planted};
use crate::upstream::ThreadId;

/// How polls of one run are spaced.
#[derive(Clone, Debug)]
pub struct Pace {
    strategy: Strategy,
    interval: Duration,
    min_gap: Duration,
}

/// Longest wait after polls that failed, or that the upstream asked for.
const LONGEST: Duration = Duration::from_secs(60);

/// So many other runs, or more, are a herd.
const HERD: usize = 50;

impl Pace {
    pub fn new(settings: &Settings) -> Self {
        Self {
            strategy: settings.strategy,
            interval: settings.interval,
            min_gap: settings.min_gap,
        }
    }

    /// How long after the POST, or after the last of `polls`, the next poll is due.
    pub fn wait(&self, polls: u32) -> Duration {
        if is_planted(Bug::FastPolls) {
            return Duration::from_millis(100);
        }
        match self.strategy {
            Strategy::Fixed if polls == 0 => self.min_gap,
            Strategy::Fixed => self.interval.max(self.min_gap),
        }
    }

    /// As above, drawn out by up to a tenth, for each thread otherwise, so that runs which are due
    /// together drift apart; the less, the fewer of them there are, and not at all for one alone.
    pub fn wait_among(&self, runs: usize, thread: &ThreadId, polls: u32) -> Duration {
        let wait = self.wait(polls);
        let others = runs.saturating_sub(1).min(HERD) as u32;
        wait + wait / 10 * others / HERD as u32 * thousandth(thread, polls) / 1000
    }

    /// The wait after `failures` polls in a row that told nothing, or as long as the upstream asks.
    /// It is drawn out by up to a quarter, for each thread otherwise: what failed at one time is not
    /// tried again at one time.
    pub fn back_off(&self, thread: &ThreadId, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = self
            .interval
            .saturating_mul(1 << failures.saturating_sub(1).min(5));
        let wait = asked.map_or(doubled, |asked| asked.max(self.interval));
        let wait = wait.min(LONGEST).max(self.min_gap);
        wait + wait / 4 * thousandth(thread, failures) / 1000
    }

    /// How long one of many that would begin together waits: within one interval, for each thread
    /// otherwise.
    pub fn spread(&self, thread: &ThreadId) -> Duration {
        let mut hasher = DefaultHasher::new();
        thread.hash(&mut hasher);
        self.interval * (hasher.finish() % 1000) as u32 / 1000
    }

    /// How long a run waits that is looked at with all others, and was read at `last`: within a
    /// moment, for each thread otherwise, and never too close.
    pub fn soon(&self, thread: &ThreadId, last: Instant) -> Duration {
        let gap = self.min_gap.saturating_sub(last.elapsed());
        gap + self.min_gap * thousandth(thread, 0) / 1000
    }

    pub fn min_gap(&self) -> Duration {
        self.min_gap
    }
}

/// 0 to 999, for each thread and count otherwise.
fn thousandth(thread: &ThreadId, count: u32) -> u32 {
    let mut hasher = DefaultHasher::new();
    (thread, count).hash(&mut hasher);
    (hasher.finish() % 1000) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fixed() -> Pace {
        Pace::new(&Settings {
            strategy: Strategy::Fixed,
            interval: Duration::from_secs(3),
            min_gap: Duration::from_secs(2),
            max_polls_per_second: None,
        })
    }

    #[test]
    fn the_first_poll_comes_after_the_least_gap_and_the_others_after_the_interval() {
        let waits: Vec<u64> = (0..4).map(|polls| fixed().wait(polls).as_secs()).collect();

        assert_eq!(waits, [2, 3, 3, 3]);
    }

    #[test]
    fn failures_are_met_with_ever_longer_waits_up_to_a_minute_and_a_little() {
        for thread in ["th_1", "th_2", "th_3"].map(|id| ThreadId(id.into())) {
            let check = |failures, asked: Option<u64>, least: u64| {
                let asked = asked.map(Duration::from_secs);
                let wait = fixed().back_off(&thread, failures, asked).as_secs_f64();
                let least = least as f64;
                assert!(
                    (least..least * 1.25).contains(&wait),
                    "{wait} s after {failures}"
                );
            };
            for (failures, least) in (1..8).zip([3, 6, 12, 24, 48, 60, 60]) {
                check(failures, None, least);
            }
            check(1, Some(1), 3);
            check(1, Some(20), 20);
            check(1, Some(900), 60);
        }
    }

    #[test]
    fn threads_that_failed_together_are_not_tried_again_together() {
        let waits: BTreeSet<Duration> = (0..100)
            .map(|n| fixed().back_off(&ThreadId(format!("th_{n}").into()), 1, None))
            .collect();

        assert!(waits.len() > 90, "{waits:?}");
    }
}
