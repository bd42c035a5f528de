//! When to poll.

pub mod estimate;
pub mod keys;
pub mod learner;
pub mod schedule;
pub mod slots;
pub mod views;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::estimate::Bracket;
use self::keys::Keys;
use self::learner::{Learner, Spacing};
use self::slots::Slots;
use crate::config::{Pace as Settings, Strategy};
use crate::ids::Tenant;
use crate::planted::{Bug, is_planted};
use crate::store::Store;
use crate::store::paces::Learned;
use crate::upstream::ThreadId;

/// How polls of one run are spaced.
#[derive(Debug)]
pub struct Pace {
    strategy: Strategy,
    interval: Duration,
    min_gap: Duration,
    /// What is learned of each upstream key.
    keys: Keys,
    slots: Slots,
}

/// How the polls of the runs of one upstream key are spaced.
#[derive(Clone, Debug)]
pub struct Rhythm<'a> {
    pace: &'a Pace,
    /// `None` where polls come at a fixed interval.
    learner: Option<Arc<Learner>>,
}

/// How far a run is that is polled.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Since the run's acceptance.
    pub so_far: Duration,
    pub polls: u32,
    /// All runs that are polled, this one included.
    pub runs: usize,
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
            slots: Slots::new(settings.interval),
            keys: Keys::new(Spacing {
                min_gap: settings.min_gap.as_secs_f64(),
                interval: settings.interval.as_secs_f64(),
            }),
        }
    }

    /// With what an earlier process has left in a store, where it is written down from now on.
    pub fn kept_in(mut self, store: Arc<Store>, left: Vec<(Tenant, Learned)>) -> Self {
        self.keys = self.keys.kept_in(store, left);
        self
    }

    /// Has everything written down that was learned.
    pub fn keep(&self) {
        self.keys.keep_all();
    }

    pub fn rhythm(&self, key: &Tenant) -> Rhythm<'_> {
        let learner = match self.strategy {
            Strategy::Fixed => None,
            Strategy::Learned => Some(self.keys.learner(key)),
        };
        Rhythm {
            pace: self,
            learner,
        }
    }

    /// The fixed interval: how long after the POST, or after the last of `polls`, the next poll is due.
    pub fn wait(&self, polls: u32) -> Duration {
        if is_planted(Bug::FastPolls) {
            return Duration::from_millis(100);
        }
        match polls {
            0 => self.min_gap,
            _ => self.interval.max(self.min_gap),
        }
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

impl Rhythm<'_> {
    /// How long after the last poll, or after the acceptance, the next poll of a run is due. Drawn out
    /// by up to a tenth, for each thread otherwise, so that runs which are due together drift apart; the
    /// less, the fewer of them there are, and not at all for one alone. Of very many, those that are
    /// learned are moved further.
    pub fn wait(&self, thread: &ThreadId, beat: Beat) -> Duration {
        let Beat {
            so_far,
            polls,
            runs,
        } = beat;
        let fixed = self.pace.wait(polls);
        let wait = match &self.learner {
            Some(learner) if !is_planted(Bug::FastPolls) => {
                let wait = learner.after(so_far).saturating_sub(so_far);
                // Polls at ever the same times would tell nothing of what lies between them.
                let varied = wait * (950 + thousandth(thread, polls) / 10) / 1000;
                varied.max(self.pace.min_gap)
            }
            Some(_) | None => fixed,
        };
        let others = runs.saturating_sub(1).min(HERD) as u32;
        let wait = wait + wait / 10 * others / HERD as u32 * thousandth(thread, polls) / 1000;
        // A fixed interval is one that polls keep.
        match &self.learner {
            Some(_) if runs >= HERD && !is_planted(Bug::FastPolls) => {
                self.pace.slots.place(wait, self.pace.min_gap)
            }
            Some(_) | None => wait,
        }
    }

    /// How much longer a run is expected to take that has been under way for so long.
    pub fn remaining(&self, so_far: Duration) -> Option<Duration> {
        Some(self.learner.as_ref()?.remaining(so_far))
    }

    /// Takes in what polls have shown of one run. Gives who is to plan anew now, which takes some tenths
    /// of a millisecond.
    pub fn saw(&self, bracket: Bracket) -> Option<Arc<Learner>> {
        let learner = self.learner.as_ref()?;
        learner.saw(bracket).then(|| Arc::clone(learner))
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
