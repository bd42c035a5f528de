//! What the runs of one upstream key have taken so far, and when the next one is polled best.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::estimate::{Bracket, Estimate};
use super::schedule::Schedule;

/// Runs remembered: two half-lives of what one counts for.
pub const REMEMBERED: usize = 300;

/// The schedule is made anew after each of the first runs, and then after so many more.
const FIRST: u64 = 8;
const RUNS: u64 = 5;

/// And not more often than this, however many runs end: it takes about a tenth of a millisecond.
const APART: Duration = Duration::from_millis(100);

/// What the settings say of how polls are spaced, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Spacing {
    pub min_gap: f64,
    /// The mean, and what the number of polls comes from.
    pub interval: f64,
}

/// Learns from every run of one upstream key, and serves all of them.
#[derive(Debug)]
pub struct Learner {
    spacing: Spacing,
    plan: Mutex<Arc<Plan>>,
    seen: Mutex<Seen>,
}

/// What is expected by now.
#[derive(Debug)]
pub struct Plan {
    estimate: Estimate,
    schedule: Schedule,
}

#[derive(Debug)]
struct Seen {
    /// Oldest first.
    brackets: VecDeque<Bracket>,
    count: u64,
    /// Of which the schedule knows so many.
    planned: u64,
    at: Option<Instant>,
}

impl Learner {
    /// With what an earlier process has seen, oldest first; `cold` is what is expected where that is
    /// nothing.
    pub fn new(spacing: Spacing, cold: &Arc<Plan>, brackets: Vec<Bracket>) -> Self {
        let plan = if brackets.is_empty() {
            Arc::clone(cold)
        } else {
            Arc::new(Plan::new(brackets.iter(), spacing))
        };
        let seen = Seen {
            count: brackets.len() as u64,
            planned: brackets.len() as u64,
            brackets: brackets.into(),
            at: None,
        };
        Self {
            spacing,
            plan: Mutex::new(plan),
            seen: Mutex::new(seen),
        }
    }

    /// When, counted from a run's acceptance, the poll after one at `last` is due; 0 is the acceptance.
    pub fn after(&self, last: Duration) -> Duration {
        let due = self.plan().schedule.after(last.as_secs_f64());
        Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX)
    }

    /// How much longer a run is expected to take that has been under way for so long.
    pub fn remaining(&self, so_far: Duration) -> Duration {
        let seconds = self.plan().estimate.remaining(so_far.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
    }

    /// Takes in what polls have shown of one run. Gives all that is remembered, whenever that is to be
    /// written down again.
    pub fn saw(&self, bracket: Bracket) -> Option<Vec<Bracket>> {
        let mut seen = self.seen();
        seen.brackets.push_back(bracket);
        if seen.brackets.len() > REMEMBERED {
            seen.brackets.pop_front();
        }
        seen.count += 1;
        let is_due = seen.count <= FIRST || seen.count >= seen.planned + RUNS;
        let now = Instant::now();
        let is_early = seen.at.is_some_and(|at| now < at + APART);
        if !is_due || is_early {
            return None;
        }
        (seen.planned, seen.at) = (seen.count, Some(now));
        let brackets = seen.brackets.clone();
        drop(seen);
        let plan = Plan::new(brackets.iter(), self.spacing);
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
        Some(brackets.into())
    }

    fn plan(&self) -> Arc<Plan> {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&plan)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// From brackets, oldest first.
    pub fn new<'a>(
        brackets: impl DoubleEndedIterator<Item = &'a Bracket>,
        spacing: Spacing,
    ) -> Self {
        let Spacing { min_gap, interval } = spacing;
        let estimate = Estimate::of(brackets, interval);
        Self {
            schedule: Schedule::best(&estimate, min_gap, interval),
            estimate,
        }
    }
}
