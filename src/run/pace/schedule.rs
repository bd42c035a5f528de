//! The best moments to poll: the least wait for a given number of polls.
//!
//! The inspection problem of reliability theory (Barlow, Hunter and Proschan 1963; Keller 1974),
//! solved by dynamic programming over the moments of a grid, with a price per poll that is moved
//! until the runs take as many polls, on average, as a fixed interval would.

use super::estimate::Estimate;

/// The grid's moments lie this much apart, in parts of the time so far and of the least gap.
const STEP: f64 = 0.03;
const LEAST_STEP: f64 = 0.07;

/// Beyond so many intervals the fixed interval serves.
const HORIZON: f64 = 400.0;

/// Halvings of the range that the price of a poll is looked for in.
const HALVINGS: usize = 9;

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
        let (mut low, mut high) = (interval / 300.0, interval * 7.0);
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
    times.map(|time| 1.0 - estimate.ended_by(time)).sum()
}

struct Grid {
    min_gap: f64,
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

impl Point {
    /// The mean wait of those that end between here and a poll, times their share.
    fn waited(&self, poll: &Self) -> f64 {
        poll.area - self.area - self.ended * (poll.at - self.at)
    }
}

impl Grid {
    fn new(estimate: &Estimate, min_gap: f64, interval: f64) -> Self {
        const PARTS: u32 = 4;
        let mut points = vec![Point {
            at: 0.0,
            ended: estimate.ended_by(0.0),
            area: 0.0,
        }];
        let (mut at, mut from, mut area) = (min_gap, 0.0, 0.0);
        while at < HORIZON * interval {
            let part = (at - from) / f64::from(PARTS);
            let middles = (0..PARTS).map(|n| from + part * (f64::from(n) + 0.5));
            area += middles
                .map(|middle| estimate.ended_by(middle) * part)
                .sum::<f64>();
            let ended = estimate.ended_by(at);
            points.push(Point { at, ended, area });
            from = at;
            at += (STEP * at).max(LEAST_STEP * min_gap);
        }
        Self { min_gap, points }
    }

    /// For each point, the next one of the cheapest schedule, where a wait of a second costs 1. The
    /// number of points stands for none.
    fn cheapest(&self, price: f64) -> Vec<usize> {
        let count = self.points.len();
        let mut costs = vec![0.0_f64; count];
        let mut next = vec![count; count];
        for (here, point) in self.points.iter().enumerate().rev() {
            let unfinished = 1.0 - point.ended;
            let earliest = point.at + self.min_gap * (1.0 - 1e-9);
            let mut best: Option<(f64, usize)> = None;
            for (there, poll) in self.points.iter().enumerate().skip(here + 1) {
                if poll.at < earliest {
                    continue;
                }
                let waited = point.waited(poll);
                let beyond = costs.get(there).copied().unwrap_or_default();
                let cost = waited + price * unfinished + beyond;
                match best {
                    Some((least, _)) if waited > least => break,
                    Some((least, _)) if cost >= least => {}
                    Some(_) | None => best = Some((cost, there)),
                }
            }
            if let (Some((cost, there)), Some(slot), Some(step)) =
                (best, costs.get_mut(here), next.get_mut(here))
            {
                (*slot, *step) = (cost, there);
            }
        }
        next
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
