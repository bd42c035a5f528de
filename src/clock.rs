//! Time that outlives the process: milliseconds that go on from where the last process stopped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// At most this much of the time between two processes counts: a wall clock that was set wrong, or a
/// machine that was put away for years, makes nobody's conversations old.
const LONGEST_GAP: Duration = Duration::from_secs(24 * 60 * 60);

/// The wall's clock may be put right by so much at once: only what is more is sleep.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// A point of time, in milliseconds. Only differences mean something.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Moment(pub u64);

/// Tells moments. While the process lives it follows the monotonic clock, whatever becomes of the
/// wall's.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Moment,
    started: Instant,
}

impl Clock {
    /// That begins at this moment.
    pub fn at(base: Moment) -> Self {
        Self {
            base,
            started: Instant::now(),
        }
    }

    /// That goes on from the newest moment that is remembered, which was remembered at `then` and is
    /// found at `now` by the wall's clock.
    pub fn after(newest: Moment, then: Moment, now: Moment) -> Self {
        let gap = Duration::from_millis(now.0.saturating_sub(then.0)).min(LONGEST_GAP);
        Self::at(newest.later(gap))
    }

    pub fn now(&self) -> Moment {
        self.base.later(self.started.elapsed())
    }
}

/// Both clocks as they were when they were last looked at.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    wall: Moment,
    own: Instant,
}

impl Looked {
    /// Just now, when the wall's clock told this.
    pub fn at(wall: Moment) -> Self {
        Self {
            wall,
            own: Instant::now(),
        }
    }

    /// Looks again. Whether the machine slept since: meanwhile the wall's clock went on, and ours did
    /// not. A wall clock that somebody sets forward looks the same.
    pub fn slept(&mut self, wall: Moment) -> bool {
        let before = std::mem::replace(self, Self::at(wall));
        wall.since(before.wall) > self.own.duration_since(before.own) + LONGEST_NAP
    }
}

impl Moment {
    /// By the wall's clock.
    pub fn of_wall() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::default().later(since.unwrap_or_default())
    }

    pub fn later(self, by: Duration) -> Self {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// From `earlier` to this; nothing where it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_goes_on_from_the_last_one_and_no_wall_clock_makes_it_leap() {
        const HOUR: u64 = 60 * 60 * 1000;
        for (then, now, gap) in [
            (10 * HOUR, 12 * HOUR, 2 * HOUR),
            (10 * HOUR, 9 * HOUR, 0),
            (10 * HOUR, 90_000 * HOUR, 24 * HOUR),
        ] {
            let clock = Clock::after(Moment(5), Moment(then), Moment(now));

            tokio::time::sleep(Duration::from_millis(40)).await;

            assert_eq!(clock.now(), Moment(5 + gap + 40));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_wall_clock_that_runs_far_ahead_of_ours_is_sleep() {
        let mut looked = Looked::at(Moment(1_000_000));
        for (wall, waited, slept) in [
            (1_001_000, 1, false),
            (1_031_000, 0, false),
            (1_061_001, 0, true),
            (1_062_000, 1, false),
            (62_000, 1, false),
            (4_000_000, 1, true),
            (7_600_000, 3600, false),
        ] {
            tokio::time::sleep(Duration::from_secs(waited)).await;

            assert_eq!(looked.slept(Moment(wall)), slept, "{wall} after {waited} s");
        }
    }
}
