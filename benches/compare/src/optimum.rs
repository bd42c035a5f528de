//! The best that polls can do: the least mean lag for a mean number of polls and a least gap, where the
//! distribution of run times is known. Dynamic programming over the moments of a fine grid, with a
//! price per poll that is moved until as many polls are made as are allowed.

use crate::spread::Spread;

/// Steps of the grid: so much of the time so far, at least so many seconds.
const STEP: f64 = 0.005;
const LEAST_STEP: f64 = 0.025;

/// The grid ends where fewer runs than this go on, or after so many seconds.
const LEFT: f64 = 1e-6;
const LONGEST: f64 = 1200.0;

/// Means over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// In seconds.
    pub lag: f64,
    pub polls: f64,
}

/// What the best schedule costs that makes `polls` of them per run, over distributions with their
/// weights: it is known of each run which it is drawn from.
pub fn best(of: &[(f64, Spread)], min_gap: f64, polls: f64) -> Cost {
    let grids = grids(of, min_gap);
    let (mut low, mut high) = (1e-4, 1e3);
    for _ in 0..40 {
        let price = f64::sqrt(low * high);
        if cost(&grids, price).polls > polls {
            low = price;
        } else {
            high = price;
        }
    }
    // Between the two schedules on either side lies whatever mixes them.
    let (more, less) = (cost(&grids, low), cost(&grids, high));
    let apart = more.polls - less.polls;
    if apart <= 1e-9 {
        return less;
    }
    let share = ((polls - less.polls) / apart).clamp(0.0, 1.0);
    Cost {
        lag: less.lag + share * (more.lag - less.lag),
        polls: less.polls + share * apart,
    }
}

/// The best schedules at several prices: a curve of lag against polls.
pub fn curve(of: Spread, min_gap: f64, prices: impl Iterator<Item = f64>) -> Vec<Cost> {
    let grids = grids(&[(1.0, of)], min_gap);
    prices.map(|price| cost(&grids, price)).collect()
}

fn grids(of: &[(f64, Spread)], min_gap: f64) -> Vec<(f64, Grid)> {
    let grid = |(weight, spread): &(f64, Spread)| (*weight, Grid::new(*spread, min_gap));
    of.iter().map(grid).collect()
}

fn cost(grids: &[(f64, Grid)], price: f64) -> Cost {
    let total: f64 = grids.iter().map(|(weight, _)| weight).sum();
    let costs = grids
        .iter()
        .map(|(weight, grid)| (weight / total, grid.cost(price)));
    costs.fold(Cost::default(), |sum, (share, cost)| Cost {
        lag: sum.lag + share * cost.lag,
        polls: sum.polls + share * cost.polls,
    })
}

struct Grid {
    min_gap: f64,
    /// The first is the run's acceptance.
    points: Vec<Point>,
}

#[derive(Clone, Copy)]
struct Point {
    at: f64,
    ended: f64,
    /// The integral of `ended` up to here.
    area: f64,
}

impl Grid {
    fn new(spread: Spread, min_gap: f64) -> Self {
        const PARTS: u32 = 8;
        let mut points = vec![Point {
            at: 0.0,
            ended: 0.0,
            area: 0.0,
        }];
        let (mut from, mut at, mut area) = (0.0, min_gap, 0.0);
        while at < LONGEST {
            let part = (at - from) / f64::from(PARTS);
            let middles = (0..PARTS).map(|n| from + part * (f64::from(n) + 0.5));
            area += middles
                .map(|middle| spread.ended_by(middle) * part)
                .sum::<f64>();
            let ended = spread.ended_by(at);
            points.push(Point { at, ended, area });
            if 1.0 - ended < LEFT {
                break;
            }
            (from, at) = (at, at + (STEP * at).max(LEAST_STEP));
        }
        Self { min_gap, points }
    }

    fn cost(&self, price: f64) -> Cost {
        let last = self.points.len() - 1;
        let mut least = vec![(0.0, Cost::default()); self.points.len()];
        for here in (0..last).rev() {
            let from = self.points[here];
            let earliest = from.at + self.min_gap * (1.0 - 1e-9);
            let first =
                here + 1 + self.points[here + 1..].partition_point(|point| point.at < earliest);
            let mut best: Option<(f64, Cost)> = None;
            // The last point is always within reach, however close.
            for there in first.min(last)..=last {
                let to = self.points[there];
                let lag = to.area - from.area - from.ended * (to.at - from.at);
                if best.is_some_and(|(total, _)| lag > total) {
                    break;
                }
                let (beyond, cost) = least[there];
                let total = lag + price * (1.0 - from.ended) + beyond;
                if best.is_none_or(|(least, _)| total < least) {
                    let polls = 1.0 - from.ended + cost.polls;
                    let lag = lag + cost.lag;
                    best = Some((total, Cost { lag, polls }));
                }
            }
            least[here] = best.unwrap_or_default();
        }
        least[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of lag and polls that is known from simulation.
    #[test]
    fn the_best_schedules_cost_what_others_have_found() {
        for (name, polls, lag) in [
            ("lognormal:8:0.6", 3.69, 1.15),
            ("lognormal:8:0.25", 3.25, 0.57),
            ("lognormal:8:1.0", 4.89, 1.43),
            ("exponential:10", 3.86, 1.58),
            ("kinds:3:20:0.25", 3.94, 0.95),
        ] {
            let cost = best(&[(1.0, name.parse().unwrap())], 0.5, polls);

            assert!((cost.polls - polls).abs() < 0.02, "{name}: {cost:?}");
            assert!((cost.lag - lag).abs() < 0.06, "{name}: {cost:?}, {lag}");
        }
    }
}
