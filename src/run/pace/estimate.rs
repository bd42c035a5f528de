//! How long runs take, as far as polls have shown it.
//!
//! A poll shows no end, it shows that a run was unfinished at one moment and finished at a later one.
//! The estimate is the one that explains such brackets best (Turnbull 1976, for data that are
//! interval-censored), smoothed at each step, mixed with a prior, and with old runs counting less.

use std::iter::zip;

/// Buckets of equal width in the logarithm of time.
const BUCKETS: usize = 150;

/// The shortest and the longest time that is told apart, in intervals: 0.25 s and 20 min of 3 s.
const SHORTEST: f64 = 1.0 / 12.0;
const LONGEST: f64 = 400.0;

/// Before anything is known: lognormal, in seconds.
const PRIOR_MEDIAN: f64 = 8.0;
const PRIOR_SIGMA: f64 = 1.0;

/// The prior counts as so many runs, and never for less than this share.
const PRIOR_WEIGHT: f64 = 12.0;
const PRIOR_LEAST: f64 = 0.03;

/// After so many more runs, one counts half.
const HALF_LIFE: f64 = 150.0;

/// Steps towards the best explanation. More of them make the estimate ragged.
const STEPS: usize = 4;

/// The width of smoothing in buckets where 50 runs are known; the more there are, the narrower.
const WIDTH: f64 = 2.5;
const NARROWING: f64 = -0.3;

/// What polls have shown of one run, in seconds from its acceptance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bracket {
    /// The last poll that showed it unfinished; 0 where none did.
    pub after: f64,
    /// The poll that showed it finished; infinite where none did.
    pub by: f64,
}

/// A distribution of run times.
#[derive(Clone, Debug)]
pub struct Estimate {
    scale: Scale,
    /// The share of runs that end by the edge of each bucket, from the first bucket's lower one.
    ended: Vec<f64>,
}

/// Where the buckets lie.
#[derive(Clone, Copy, Debug)]
struct Scale {
    shortest: f64,
}

impl Scale {
    /// For polls that are so many seconds apart.
    fn new(interval: f64) -> Self {
        Self {
            shortest: interval * SHORTEST,
        }
    }

    /// In buckets from the first one's lower edge.
    fn place(self, seconds: f64) -> f64 {
        let buckets = BUCKETS as f64;
        let place = (seconds / self.shortest).ln() / (LONGEST / SHORTEST).ln() * buckets;
        place.clamp(0.0, buckets)
    }

    fn edge(self, bucket: usize) -> f64 {
        let share = bucket as f64 / BUCKETS as f64;
        self.shortest * (LONGEST / SHORTEST).powf(share)
    }
}

impl Estimate {
    /// From brackets, oldest first, seen by polls about `interval` seconds apart.
    pub fn of<'a>(brackets: impl DoubleEndedIterator<Item = &'a Bracket>, interval: f64) -> Self {
        let scale = Scale::new(interval);
        let prior = prior(scale);
        let fading = 0.5_f64.powf(1.0 / HALF_LIFE);
        let weights = std::iter::successors(Some(1.0), |weight| Some(weight * fading));
        let known: Vec<Known> = zip(brackets.rev(), weights)
            .map(|(bracket, weight)| Known::new(scale, bracket, weight))
            .collect();
        let total: f64 = known.iter().map(|known| known.weight).sum();
        if total == 0.0 {
            return Self::from(scale, &prior);
        }
        let width = WIDTH * (total / 50.0).powf(NARROWING);
        let kernel = Kernel::new(width);
        let of_prior = PRIOR_LEAST + (1.0 - PRIOR_LEAST) * PRIOR_WEIGHT / (PRIOR_WEIGHT + total);
        let mut shares = prior.clone();
        for _ in 0..STEPS {
            let mut next = vec![0.0; BUCKETS];
            for known in &known {
                known.spread(&shares, total, &mut next);
            }
            shares = kernel.smoothed(&next);
            for (share, prior) in zip(&mut shares, &prior) {
                *share = (1.0 - of_prior) * *share + of_prior * prior;
            }
        }
        Self::from(scale, &shares)
    }

    fn from(scale: Scale, shares: &[f64]) -> Self {
        let total: f64 = shares.iter().sum();
        let mut sum = 0.0;
        let edges = shares.iter().map(|share| {
            sum += share / total;
            sum
        });
        let ended = std::iter::once(0.0).chain(edges).collect();
        Self { scale, ended }
    }

    /// The share of runs that end within so many seconds of their acceptance.
    pub fn ended_by(&self, seconds: f64) -> f64 {
        let place = self.scale.place(seconds);
        let (bucket, within) = (place as usize, place.fract());
        let at = |bucket: usize| self.ended.get(bucket).copied().unwrap_or(1.0);
        at(bucket) + (at(bucket + 1) - at(bucket)) * within
    }

    /// How much longer, in seconds, a run is expected to take that was unfinished after so many.
    pub fn remaining(&self, seconds: f64) -> f64 {
        let unfinished = 1.0 - self.ended_by(seconds);
        if unfinished <= f64::EPSILON {
            return self.scale.shortest;
        }
        let first = self.scale.place(seconds) as usize;
        let ends: f64 = (first..BUCKETS)
            .map(|bucket| {
                let (from, to) = (
                    self.scale.edge(bucket).max(seconds),
                    self.scale.edge(bucket + 1),
                );
                let share = self.ended_by(to) - self.ended_by(from);
                share * ((from + to) / 2.0 - seconds)
            })
            .sum();
        ends / unfinished
    }
}

/// A bracket in buckets.
struct Known {
    from: f64,
    to: f64,
    weight: f64,
}

impl Known {
    fn new(scale: Scale, bracket: &Bracket, weight: f64) -> Self {
        let (from, to) = (scale.place(bracket.after), scale.place(bracket.by));
        // Both beyond one end of what is told apart.
        let from = from.min(BUCKETS as f64 - 1.0);
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to, weight }
    }

    /// Spreads the run over the buckets that it may have ended in, in proportion to their shares.
    fn spread(&self, shares: &[f64], total: f64, onto: &mut [f64]) {
        let first = self.from as usize;
        let touched = (self.to.ceil() as usize).saturating_sub(first);
        let overlap = |bucket: usize| {
            let (lower, upper) = (bucket as f64, bucket as f64 + 1.0);
            self.to.min(upper) - self.from.max(lower)
        };
        let parts = || {
            let places = shares.iter().enumerate().skip(first).take(touched);
            places.map(|(bucket, share)| share * overlap(bucket))
        };
        let sum: f64 = parts().sum();
        if sum <= 0.0 {
            return;
        }
        for (onto, part) in zip(onto.iter_mut().skip(first), parts()) {
            *onto += self.weight / total * part / sum;
        }
    }
}

fn prior(scale: Scale) -> Vec<f64> {
    let ended = |edge| lognormal(PRIOR_MEDIAN, PRIOR_SIGMA, scale.edge(edge));
    let mut shares: Vec<f64> = (0..BUCKETS)
        .map(|bucket| ended(bucket + 1) - ended(bucket))
        .collect();
    // What lies beyond is not told apart from the last and the first bucket.
    if let Some(first) = shares.first_mut() {
        *first += ended(0);
    }
    if let Some(last) = shares.last_mut() {
        *last += 1.0 - ended(BUCKETS);
    }
    shares
}

/// The share of a lognormal distribution below `x`.
fn lognormal(median: f64, sigma: f64, x: f64) -> f64 {
    normal((x / median).ln() / sigma)
}

/// The share of the standard normal distribution below `z`, to seven digits (Abramowitz and Stegun
/// 1964, 26.2.17).
fn normal(z: f64) -> f64 {
    const COEFFICIENTS: [f64; 5] = [
        1.330_274_429,
        -1.821_255_978,
        1.781_477_937,
        -0.356_563_782,
        0.319_381_530,
    ];
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let sum = COEFFICIENTS.iter().fold(0.0, |sum, c| (sum + c) * t);
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let above = density * sum;
    if z < 0.0 { above } else { 1.0 - above }
}

/// A normal density over whole buckets.
struct Kernel {
    weights: Vec<f64>,
}

impl Kernel {
    fn new(width: f64) -> Self {
        let reach = (3.0 * width).ceil() as i32;
        let density = |at: i32| (-0.5 * (f64::from(at) / width).powi(2)).exp();
        let total: f64 = (-reach..=reach).map(density).sum();
        Self {
            weights: (-reach..=reach).map(|at| density(at) / total).collect(),
        }
    }

    /// What would fall beyond an end is kept at it.
    fn smoothed(&self, shares: &[f64]) -> Vec<f64> {
        let reach = self.weights.len() / 2;
        let last = shares.len().saturating_sub(1);
        let mut smoothed = vec![0.0; shares.len()];
        for (bucket, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            for (at, weight) in self.weights.iter().enumerate() {
                let onto = (bucket + at).saturating_sub(reach).min(last);
                if let Some(onto) = smoothed.get_mut(onto) {
                    *onto += share * weight;
                }
            }
        }
        smoothed
    }
}
