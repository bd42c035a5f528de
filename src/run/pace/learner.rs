//! What the runs of one upstream key have taken so far, and when the next one is polled best.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::estimate::{Bracket, Estimate};
use super::schedule::Schedule;
use super::views::{REMEMBERED, Views};
use crate::ids::Tenant;
use crate::store::Store;
use crate::store::paces::Learned;

/// A plan is made anew after each of the first runs, and then once the runs since were so much news,
/// in nats, or after so many of them. A run that nothing was expected of is two or three nats.
const FIRST: u64 = 8;
const NEWS: f64 = 4.0;
const RUNS: u32 = 25;

/// And so many times within an interval at the most, however many runs end.
const PLANS: u32 = 30;

/// How often what was learned is written down.
const KEPT_EVERY: Duration = Duration::from_mins(1);

/// What the settings say of how polls are spaced, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Spacing {
    pub min_gap: f64,
    /// The mean, and what the number of polls comes from.
    pub interval: f64,
}

/// Where it is written down what is learned of a key.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub store: Arc<Store>,
    pub key: Tenant,
}

/// Learns from every run of one upstream key, and serves all of them.
#[derive(Debug)]
pub struct Learner {
    spacing: Spacing,
    plan: Mutex<Arc<Plan>>,
    seen: Mutex<Seen>,
    keeping: Option<Keeping>,
}

/// What is expected by now.
#[derive(Debug)]
pub struct Plan {
    estimate: Estimate,
    schedule: Schedule,
}

#[derive(Debug)]
struct Seen {
    views: Views,
    /// Oldest first.
    brackets: VecDeque<Bracket>,
    count: u64,
    /// Since the last plan, and what of them was not foreseen.
    runs: u32,
    news: f64,
    planned: Option<Instant>,
    is_planning: bool,
    /// Not written down yet.
    unkept: u32,
    kept: Option<Instant>,
}

impl Learner {
    /// With what an earlier process has learned; `cold` is what is expected where that is nothing.
    pub fn new(
        spacing: Spacing,
        cold: &Arc<Plan>,
        learned: &Learned,
        keeping: Option<Keeping>,
    ) -> Self {
        let mut views = Views::new(spacing.interval);
        let excess = learned.brackets.len().saturating_sub(REMEMBERED);
        let brackets: VecDeque<Bracket> = learned
            .brackets
            .iter()
            .skip(excess)
            .filter_map(bracket)
            .collect();
        let plan = if brackets.is_empty() {
            Arc::clone(cold)
        } else {
            views.set_weights(&learned.weights());
            views.look_again(&brackets);
            Arc::new(Plan::new(&views, spacing))
        };
        let seen = Seen {
            views,
            count: brackets.len() as u64,
            brackets,
            runs: 0,
            news: 0.0,
            planned: None,
            is_planning: false,
            unkept: 0,
            kept: None,
        };
        Self {
            spacing,
            plan: Mutex::new(plan),
            seen: Mutex::new(seen),
            keeping,
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

    /// Takes in what polls have shown of one run. Whether [`Learner::renew`] is to be called now.
    pub fn saw(&self, bracket: Bracket) -> bool {
        let mut seen = self.seen();
        seen.news += seen.views.weigh(&bracket);
        seen.brackets.push_back(bracket);
        if seen.brackets.len() > REMEMBERED {
            seen.brackets.pop_front();
        }
        seen.count += 1;
        seen.runs += 1;
        seen.unkept += 1;
        let is_due = seen.count <= FIRST || seen.news >= NEWS || seen.runs >= RUNS;
        let apart = Duration::from_secs_f64(self.spacing.interval) / PLANS;
        let is_early = seen.planned.is_some_and(|at| at.elapsed() < apart);
        if !is_due || is_early || seen.is_planning {
            return false;
        }
        (seen.runs, seen.news) = (0, 0.0);
        seen.planned = Some(Instant::now());
        seen.is_planning = true;
        true
    }

    /// Plans anew, which takes some tenths of a millisecond.
    pub fn renew(&self) {
        let (mut views, brackets) = {
            let seen = self.seen();
            (seen.views.clone(), seen.brackets.clone())
        };
        views.look(&brackets);
        let plan = Arc::new(Plan::new(&views, self.spacing));
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
        let mut seen = self.seen();
        // Runs may have ended meanwhile.
        views.set_weights(&seen.views.weights());
        seen.views = views;
        seen.is_planning = false;
        let is_due = seen.kept.is_none_or(|kept| kept.elapsed() >= KEPT_EVERY);
        drop(seen);
        if is_due {
            self.keep();
        }
    }

    /// Writes down what is not written yet.
    pub fn keep(&self) {
        let Some(Keeping { store, key }) = &self.keeping else {
            return;
        };
        let mut seen = self.seen();
        if seen.unkept == 0 {
            return;
        }
        (seen.unkept, seen.kept) = (0, Some(Instant::now()));
        let brackets = seen.brackets.iter().map(times).collect();
        let learned = Learned::new(store.now(), &seen.views.weights(), brackets);
        // Under the lock, so that what is newer is queued later.
        store.write_pace(key, &learned);
    }

    /// When the last plan was made, if one was.
    pub fn planned(&self) -> Option<Instant> {
        self.seen().planned
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
    pub fn new(views: &Views, spacing: Spacing) -> Self {
        let Spacing { min_gap, interval } = spacing;
        let estimate = views.estimate();
        Self {
            schedule: Schedule::best(&estimate, min_gap, interval),
            estimate,
        }
    }
}

/// In milliseconds, as it is written down. The last of them stands for never.
fn times(bracket: &Bracket) -> (u32, u32) {
    let millis = |seconds: f64| (seconds * 1000.0).round() as u32;
    (millis(bracket.after), millis(bracket.by))
}

/// `None` for what cannot have been seen.
fn bracket((after, by): &(u32, u32)) -> Option<Bracket> {
    if after >= by {
        return None;
    }
    let seconds = |millis: u32| f64::from(millis) / 1000.0;
    let by = match *by {
        u32::MAX => f64::INFINITY,
        by => seconds(by),
    };
    Some(Bracket {
        after: seconds(*after),
        by,
    })
}
