//! How long runs take: a distribution over buckets of time.

use std::iter::zip;

/// Buckets of equal width in the logarithm of time.
pub const BUCKETS: usize = 150;

/// The shortest and the longest time that is told apart, in intervals: 0.25 s and 20 min of 3 s.
const SHORTEST: f64 = 1.0 / 12.0;
const LONGEST: f64 = 400.0;

/// Before anything is known: lognormal, in seconds.
const PRIOR_MEDIAN: f64 = 8.0;
const PRIOR_SIGMA: f64 = 1.0;

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
pub struct Scale {
    shortest: f64,
    /// Buckets to a step of one in the logarithm of time.
    pub density: f64,
}

impl Scale {
    /// For polls that are so many seconds apart.
    pub fn new(interval: f64) -> Self {
        Self {
            shortest: interval * SHORTEST,
            density: BUCKETS as f64 / (LONGEST / SHORTEST).ln(),
        }
    }

    /// In buckets from the first one's lower edge.
    pub fn place(self, seconds: f64) -> f64 {
        let place = (seconds / self.shortest).ln() * self.density;
        place.clamp(0.0, BUCKETS as f64)
    }

    /// The lower edge of a bucket, in seconds.
    pub fn edge(self, bucket: usize) -> f64 {
        self.shortest * (bucket as f64 / self.density).exp()
    }

    /// The shares of a lognormal distribution. What lies beyond is not told apart from the last and
    /// the first bucket.
    pub fn lognormal(self, median: f64, sigma: f64) -> Vec<f64> {
        let ended = |bucket| match bucket {
            0 => 0.0,
            BUCKETS => 1.0,
            _ => normal((self.edge(bucket) / median).ln() / sigma),
        };
        let edges: Vec<f64> = (0..=BUCKETS).map(ended).collect();
        zip(&edges, edges.iter().skip(1))
            .map(|(from, to)| to - from)
            .collect()
    }

    /// What is expected where nothing is known.
    pub fn prior(self) -> Vec<f64> {
        self.lognormal(PRIOR_MEDIAN, PRIOR_SIGMA)
    }
}

impl Estimate {
    /// From the shares of the buckets.
    pub fn new(scale: Scale, shares: &[f64]) -> Self {
        let total: f64 = shares.iter().sum();
        let mut sum = 0.0;
        let edges = shares.iter().map(|share| {
            sum += share / total;
            sum
        });
        let ended = std::iter::once(0.0).chain(edges).collect();
        Self { scale, ended }
    }

    /// Of each bucket.
    pub fn shares(&self) -> impl Iterator<Item = f64> {
        zip(&self.ended, self.ended.iter().skip(1)).map(|(from, to)| to - from)
    }

    /// The share of runs that end within so many seconds of their acceptance.
    pub fn ended_by(&self, seconds: f64) -> f64 {
        self.ended_at(self.scale.place(seconds))
    }

    /// As above, by a place in buckets.
    pub fn ended_at(&self, place: f64) -> f64 {
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
