//! The best moments to poll: the least wait for a given number of polls.
//!
//! The inspection problem of reliability theory (Barlow, Hunter and Proschan 1963; Keller 1974),
//! solved by dynamic programming over the moments of a grid, with a price per poll that is moved
//! until the runs take as many polls, on average, as a fixed interval would.

use std::collections::VecDeque;

use super::estimate::Estimate;

/// The grid's moments lie this much apart, in parts of the time so far and of the least gap.
const STEP: f64 = 0.006;
const LEAST_STEP: f64 = 0.03;

/// Where fewer runs than this go on, or beyond so many intervals, the fixed interval serves.
const LEFT: f64 = 0.001;
const HORIZON: f64 = 400.0;

/// A poll that saves less than this share of what one more would at the fixed interval is not worth
/// making, whatever the budget.
const WORTH: f64 = 0.2;

/// Halvings of the range that the price of a poll is looked for in.
const HALVINGS: usize = 12;

/// For each moment of a grid, the moment of the next poll after one there.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: f64,
    /// In seconds from the acceptance, beginning with 0.
    moments: Vec<f64>,
    next: Vec<f64>,
}

impl Schedule {
    /// For polls at least `min_gap` seconds apart, as many of them as at a fixed interval.
    pub fn best(estimate: &Estimate, min_gap: f64, interval: f64) -> Self {
        let grid = Grid::new(estimate, min_gap, interval);
        let wanted = polls_at(estimate, interval);
        let worth = interval * interval / (2.0 * grid.mean());
        let (mut low, mut high) = (WORTH * worth, interval * 7.0);
        let mut best = grid.cheapest(high);
        for _ in 0..HALVINGS {
            let price = (low * high).sqrt();
            let next = grid.cheapest(price);
            if grid.polls(&next) > wanted {
                low = price;
            } else {
                high = price;
                best = next;
            }
        }
        let moment = |at: &usize| grid.points.get(*at).map_or(f64::INFINITY, |point| point.at);
        Self {
            interval,
            next: best.iter().map(moment).collect(),
            moments: grid.points.iter().map(|point| point.at).collect(),
        }
    }

    /// When, in seconds from the acceptance, the poll after one at `last` is due. 0 stands for the
    /// acceptance itself.
    pub fn after(&self, last: f64) -> f64 {
        let behind = self.moments.partition_point(|moment| *moment <= last);
        let at = behind.saturating_sub(1);
        let (Some(moment), Some(next)) = (self.moments.get(at), self.next.get(at)) else {
            return last + self.interval;
        };
        if next.is_infinite() {
            return last + self.interval;
        }
        // A poll that came late moves the next one.
        last + (next - moment)
    }
}

/// The mean number of polls of a run at a fixed interval.
fn polls_at(estimate: &Estimate, interval: f64) -> f64 {
    let times = (0..HORIZON as u32).map(|polls| f64::from(polls) * interval);
    times
        .map(|time| 1.0 - estimate.ended_by(time))
        .take_while(|unfinished| *unfinished > 1e-9)
        .sum()
}

struct Grid {
    min_gap: f64,
    interval: f64,
    points: Vec<Point>,
}

#[derive(Clone, Copy)]
struct Point {
    at: f64,
    /// The share of runs that have ended.
    ended: f64,
    /// The integral of that share up to here.
    area: f64,
}

/// What a poll at one moment costs with all that come after it, as a line over the share of runs that
/// had ended at the poll before.
#[derive(Clone, Copy)]
struct Line {
    poll: usize,
    at: f64,
    cost: f64,
}

impl Line {
    fn cost(&self, ended: f64) -> f64 {
        self.cost - self.at * ended
    }

    /// Whether this one is nowhere the least between an earlier and a later poll's.
    fn is_covered(&self, later: &Self, earlier: &Self) -> bool {
        let at = |one: &Self, other: &Self| (one.cost - other.cost) / (one.at - other.at);
        at(later, self) <= at(self, earlier)
    }
}

impl Grid {
    fn new(estimate: &Estimate, min_gap: f64, interval: f64) -> Self {
        let mut from = Point {
            at: 0.0,
            ended: 0.0,
            area: 0.0,
        };
        let mut points = vec![from];
        let mut at = min_gap;
        // No poll may come before the least gap, so that what lies within it is only summed up.
        const PARTS: u32 = 16;
        for part in 1..PARTS {
            from = from.on(estimate, min_gap * f64::from(part) / f64::from(PARTS));
        }
        while at < HORIZON * interval {
            from = from.on(estimate, at);
            points.push(from);
            if 1.0 - from.ended < LEFT {
                break;
            }
            at += (STEP * at).max(LEAST_STEP * min_gap);
        }
        Self {
            min_gap,
            interval,
            points,
        }
    }

    /// For each point, the next one of the cheapest schedule, where a wait of a second costs 1. The
    /// number of points stands for none.
    ///
    /// From `here`, a poll `there` costs the wait of those that end between, which is
    /// `area[there] - area[here] - ended[here] * (at[there] - at[here])`, and what comes after it: for
    /// each `there` a line over `ended[here]`. The lines come in the order of their slopes, and are asked
    /// in the order of the shares, so that the least of them is found by going on from the last.
    fn cheapest(&self, price: f64) -> Vec<usize> {
        let count = self.points.len();
        let mut costs = vec![0.0_f64; count];
        let mut next = vec![count; count];
        let mut lines: VecDeque<Line> = VecDeque::new();
        let mut unasked = count;
        for (here, point) in self.points.iter().enumerate().rev() {
            let unfinished = 1.0 - point.ended;
            let earliest = point.at + self.min_gap * (1.0 - 1e-9);
            while let Some(poll) = unasked.checked_sub(1)
                && let Some(of) = self.points.get(poll).filter(|of| of.at >= earliest)
            {
                let cost = of.area + costs.get(poll).copied().unwrap_or_default();
                push(
                    &mut lines,
                    Line {
                        poll,
                        at: of.at,
                        cost,
                    },
                );
                unasked = poll;
            }
            while let (Some(first), Some(second)) = (lines.front(), lines.get(1))
                && second.cost(point.ended) <= first.cost(point.ended)
            {
                lines.pop_front();
            }
            let (Some(slot), Some(step)) = (costs.get_mut(here), next.get_mut(here)) else {
                continue;
            };
            match lines.front() {
                Some(line) => {
                    let waited = line.cost(point.ended) - point.area + point.ended * point.at;
                    (*slot, *step) = (waited + price * unfinished, line.poll);
                }
                // Beyond the grid polls come at the fixed interval.
                None => *slot = unfinished * (price + self.interval / 2.0),
            }
        }
        next
    }

    /// How long runs take on the mean, as far as the grid goes.
    fn mean(&self) -> f64 {
        let last = self.points.last();
        last.map_or(self.min_gap, |last| (last.at - last.area).max(self.min_gap))
    }

    /// The mean number of polls of a run.
    fn polls(&self, next: &[usize]) -> f64 {
        let mut polls = 0.0;
        let mut here = 0;
        while let (Some(point), Some(there)) = (self.points.get(here), next.get(here)) {
            if *there >= self.points.len() {
                break;
            }
            polls += 1.0 - point.ended;
            here = *there;
        }
        polls
    }
}

impl Point {
    /// The next one.
    fn on(self, estimate: &Estimate, at: f64) -> Self {
        let ended = estimate.ended_by(at);
        let area = self.area + (at - self.at) * (self.ended + ended) / 2.0;
        Self { at, ended, area }
    }
}

/// Puts an earlier poll's line beside those of the later ones, and drops what is nowhere the least.
fn push(lines: &mut VecDeque<Line>, line: Line) {
    while let (Some(last), Some(before)) = (
        lines.back(),
        lines.len().checked_sub(2).and_then(|at| lines.get(at)),
    ) && last.is_covered(before, &line)
    {
        lines.pop_back();
    }
    lines.push_back(line);
}
