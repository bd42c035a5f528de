//! Several views of how long runs take, each weighed by how well it has foreseen the last of them.
//!
//! A poll shows no end, it shows that a run was unfinished at one moment and finished at a later one.
//! A view explains such brackets best in its own shape (Turnbull 1976, for data that are
//! interval-censored) and from as many of them as it remembers. Which shape and which memory serve,
//! what comes next tells: the views share weight so that another one leads soon after runs begin to
//! take another time (Herbster and Warmuth 1998, tracking the best expert).

use std::collections::VecDeque;
use std::iter::zip;

use super::estimate::{BUCKETS, Bracket, Estimate, Scale};

/// The prior counts as so many runs, and never for less than this share.
const PRIOR_WEIGHT: f64 = 3.0;
const PRIOR_LEAST: f64 = 0.01;

/// Steps towards the best explanation, each time; they go on from the last one.
const STEPS: usize = 5;

/// What makes up for the steps that an earlier process has taken.
const LOOKS: usize = 4;

/// At each run, this share of all weight is given out anew.
const SHARED: f64 = 0.02;

/// The width of smoothing in buckets where 50 runs are known; the more there are, the narrower.
const NARROWING: f64 = -0.25;

/// What views there are.
const KINDS: [Kind; 8] = [
    Kind::smoothed(2.0, 400),
    Kind::smoothed(5.0, 400),
    Kind::lognormal(400),
    Kind::smoothed(3.0, 100),
    Kind::lognormal(100),
    Kind::smoothed(4.0, 30),
    Kind::lognormal(30),
    Kind::lognormal(10),
];

/// The weight of each where nothing tells between them.
const EQUAL: f64 = 1.0 / KINDS.len() as f64;

/// The most runs that any view remembers.
pub const REMEMBERED: usize = 400;

#[derive(Clone, Copy, Debug)]
struct Kind {
    shape: Shape,
    /// Runs that it is made from.
    memory: usize,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Any, smoothed over so many buckets where 50 runs are known.
    Smoothed(f64),
    Lognormal,
}

impl Kind {
    const fn smoothed(width: f64, memory: usize) -> Self {
        let shape = Shape::Smoothed(width);
        Self { shape, memory }
    }

    const fn lognormal(memory: usize) -> Self {
        let shape = Shape::Lognormal;
        Self { shape, memory }
    }
}

/// What is thought of one key's runs.
#[derive(Clone, Debug)]
pub struct Views {
    scale: Scale,
    prior: Vec<f64>,
    views: Vec<View>,
}

#[derive(Clone, Debug)]
struct View {
    kind: Kind,
    weight: f64,
    estimate: Estimate,
}

impl Views {
    /// Before any run, for polls that are so many seconds apart.
    pub fn new(interval: f64) -> Self {
        let scale = Scale::new(interval);
        let prior = scale.prior();
        let view = |kind: &Kind| View {
            kind: *kind,
            weight: EQUAL,
            estimate: Estimate::new(scale, &prior),
        };
        Self {
            scale,
            views: KINDS.iter().map(view).collect(),
            prior,
        }
    }

    /// Weighs the views by what they thought of this run. Gives how much news it was to all of them
    /// together, in nats.
    pub fn weigh(&mut self, bracket: &Bracket) -> f64 {
        let place = Place::new(self.scale, bracket);
        let mut foreseen = 0.0;
        for view in &mut self.views {
            let chance = view.estimate.ended_at(place.to) - view.estimate.ended_at(place.from);
            view.weight *= chance.max(1e-6);
            foreseen += view.weight;
        }
        for view in &mut self.views {
            view.weight = (1.0 - SHARED) * view.weight / foreseen + SHARED * EQUAL;
        }
        -foreseen.ln()
    }

    /// As often as it takes from nothing.
    pub fn look_again(&mut self, brackets: &VecDeque<Bracket>) {
        for _ in 0..LOOKS {
            self.look(brackets);
        }
    }

    /// Looks at all brackets, oldest first.
    pub fn look(&mut self, brackets: &VecDeque<Bracket>) {
        let newest: Vec<Place> = brackets
            .iter()
            .rev()
            .take(REMEMBERED)
            .map(|bracket| Place::new(self.scale, bracket))
            .collect();
        if newest.is_empty() {
            return;
        }
        for view in &mut self.views {
            let known = newest.get(..view.kind.memory).unwrap_or(&newest);
            view.look(self.scale, &self.prior, known);
        }
    }

    /// What they think together.
    pub fn estimate(&self) -> Estimate {
        let mut shares = vec![0.0; BUCKETS];
        for view in &self.views {
            for (sum, share) in zip(&mut shares, view.estimate.shares()) {
                *sum += view.weight * share;
            }
        }
        Estimate::new(self.scale, &shares)
    }

    pub fn weights(&self) -> Vec<f64> {
        self.views.iter().map(|view| view.weight).collect()
    }

    /// Takes up weights that were given out before, if they can be those of these views.
    pub fn set_weights(&mut self, weights: &[f64]) {
        let total: f64 = weights.iter().sum();
        let are_weights = weights.iter().all(|weight| (0.0..=1.0).contains(weight));
        if weights.len() != self.views.len() || !are_weights || !(0.5..=1.5).contains(&total) {
            return;
        }
        for (view, weight) in zip(&mut self.views, weights) {
            view.weight = weight / total;
        }
    }
}

impl View {
    fn look(&mut self, scale: Scale, prior: &[f64], known: &[Place]) {
        let total = known.len() as f64;
        let of_prior = PRIOR_LEAST + (1.0 - PRIOR_LEAST) * PRIOR_WEIGHT / (PRIOR_WEIGHT + total);
        let mut shares: Vec<f64> = self.estimate.shares().collect();
        for _ in 0..STEPS {
            let counts = spread(known, &shares);
            let fit = match self.kind.shape {
                Shape::Smoothed(width) => {
                    let width = width * (total / 50.0).powf(NARROWING);
                    Kernel::new(width).smoothed(&counts)
                }
                Shape::Lognormal => {
                    let of_prior = PRIOR_WEIGHT / 2.0 / total;
                    let counts = zip(&counts, prior).map(|(count, prior)| count + of_prior * prior);
                    fitted(scale, &counts.collect::<Vec<_>>())
                }
            };
            shares = zip(&fit, prior)
                .map(|(share, prior)| (1.0 - of_prior) * share + of_prior * prior)
                .collect();
        }
        self.estimate = Estimate::new(scale, &shares);
    }
}

/// A bracket in buckets.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: f64,
    to: f64,
}

impl Place {
    fn new(scale: Scale, bracket: &Bracket) -> Self {
        let (from, to) = (scale.place(bracket.after), scale.place(bracket.by));
        // Both beyond one end of what is told apart.
        let from = from.min(BUCKETS as f64 - 1.0);
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to }
    }
}

/// Spreads each run over the buckets that it may have ended in, in proportion to their shares.
fn spread(known: &[Place], shares: &[f64]) -> Vec<f64> {
    let mut below = Vec::with_capacity(BUCKETS + 2);
    let mut sum = 0.0;
    below.push(0.0);
    below.extend(shares.iter().map(|share| {
        sum += share;
        sum
    }));
    below.push(sum);
    let at = |place: f64| {
        let (bucket, within) = (place as usize, place.fract());
        let edge = |bucket: usize| below.get(bucket).copied().unwrap_or(sum);
        edge(bucket) + (edge(bucket + 1) - edge(bucket)) * within
    };
    // How much of each bucket's share runs claim: steps up and down, within the buckets at either end
    // in part.
    let mut steps = vec![0.0; BUCKETS + 2];
    let mut step = |place: f64, by: f64| {
        let (bucket, within) = (place as usize, place.fract());
        for (bucket, part) in [(bucket, 1.0 - within), (bucket + 1, within)] {
            if let Some(step) = steps.get_mut(bucket) {
                *step += by * part;
            }
        }
    };
    for place in known {
        let within = at(place.to) - at(place.from);
        if within > 0.0 {
            let claim = 1.0 / (within * known.len() as f64);
            step(place.from, claim);
            step(place.to, -claim);
        }
    }
    let mut claimed = 0.0;
    zip(shares, steps)
        .map(|(share, step)| {
            claimed += step;
            share * claimed
        })
        .collect()
}

/// The lognormal distribution with the mean and the deviation of these.
fn fitted(scale: Scale, counts: &[f64]) -> Vec<f64> {
    let total: f64 = counts.iter().sum();
    let places = || counts.iter().zip(0_u32..);
    let middle = |at: u32| f64::from(at) + 0.5;
    let mean: f64 = places().map(|(count, at)| count * middle(at)).sum::<f64>() / total;
    let square = places().map(|(count, at)| count * (middle(at) - mean).powi(2));
    let variance = square.sum::<f64>() / total;
    let sigma = variance.sqrt().max(1.0) / scale.density;
    let median = scale.edge(0) * (mean / scale.density).exp();
    scale.lognormal(median, sigma)
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
