//! How well each pace places its polls, by simulation: the proxy's own pace, on times that are drawn.
//!
//! Poll efficiency (PE) is (mean run time / 2) / (mean lag x (mean polls - 1/2)).

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use chaturdata_proxy::config::{Config, Strategy};
use chaturdata_proxy::ids::Tenant;
use chaturdata_proxy::run::pace::estimate::Bracket;
use chaturdata_proxy::run::pace::{Beat, Pace};
use chaturdata_proxy::upstream::ThreadId;

use crate::bounds::Bounds;
use crate::bounds::By::Count;
use crate::optimum::{self, Cost};
use crate::plot::{self, Panel};
use crate::spread::{Numbers, Spread};
use crate::table::{self, shown};

const MIN_GAP: f64 = 2.0;
const INTERVAL: f64 = 3.0;

/// The pace makes its plan anew no more often than this.
const APART: Duration = Duration::from_millis(105);

/// Runs before those that are counted, and with them.
const KNOWN: u32 = 200;
const RUNS: u32 = 500;
/// Of a cold start.
const FIRST: u32 = 30;
/// Cold starts below which nothing is promised.
const STARTS: u64 = 200;
/// The least share of the fixed interval's efficiency, once runs are known.
const OF_FIXED: f64 = 0.97;

/// What is measured, and the least share of the optimum's efficiency, and of the fixed interval's in
/// the first runs.
const KINDS: [(&str, f64, f64); 10] = [
    ("lognormal:8:0.6", 0.90, 0.97),
    ("lognormal:8:0.25", 0.80, 0.97),
    ("lognormal:8:1.0", 0.90, 0.97),
    ("lognormal:30:0.6", 0.90, 0.97),
    ("kinds:3:20:0.25", 0.80, 0.97),
    ("exponential:10", 0.90, 0.94),
    ("jump:4:16:0.6:300", 0.85, 0.97),
    ("jump:16:4:0.6:300", 0.85, 0.97),
    ("weibull:1.5:12", 0.90, 0.97),
    ("uniform:5:25", 0.90, 0.97),
];

/// Distributions that are drawn, and intervals that a budget is taken from.
const DRAWN: [(&str, &str); 4] = [
    ("lognormal:8:0.6", "lognormal, median 8 s, sigma 0.6"),
    ("lognormal:8:0.25", "lognormal, median 8 s, sigma 0.25"),
    ("kinds:3:20:0.25", "two kinds, 3 s and 20 s"),
    ("exponential:10", "exponential, mean 10 s"),
];
const INTERVALS: [f64; 5] = [2.2, 2.5, 3.0, 4.0, 5.0];

/// How many learn beside each other.
pub struct Plan<'a> {
    pub learners: u64,
    pub starts: u64,
    pub svg: &'a Path,
}

/// Means over many runs, and the lags.
#[derive(Clone, Default)]
struct Means {
    time: f64,
    polls: f64,
    lags: Vec<f64>,
}

impl Means {
    fn add(&mut self, time: f64, (lag, polls): (f64, u32)) {
        self.time += time;
        self.polls += f64::from(polls);
        self.lags.push(lag);
    }

    fn join(&mut self, other: &Self) {
        self.time += other.time;
        self.polls += other.polls;
        self.lags.extend(&other.lags);
    }

    fn cost(&self) -> Cost {
        let runs = self.lags.len() as f64;
        Cost {
            lag: self.lags.iter().sum::<f64>() / runs,
            polls: self.polls / runs,
        }
    }

    fn efficiency(&self, cost: Cost) -> f64 {
        let time = self.time / self.lags.len() as f64;
        time / 2.0 / (cost.lag * (cost.polls - 0.5))
    }

    fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.lags.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
            .get((sorted.len() as f64 * share) as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// One key whose runs are learned from, with what other paces would have made of them.
struct Key {
    of: Spread,
    pace: Pace,
    numbers: Numbers,
    name: String,
    learned: Means,
    fixed: Means,
    backed_off: Means,
}

impl Key {
    fn new(of: Spread, seed: u64, interval: f64) -> Self {
        let mut settings = Config::default().pace;
        settings.strategy = Strategy::Learned;
        settings.interval = Duration::from_secs_f64(interval);
        settings.min_gap = Duration::from_secs_f64(MIN_GAP);
        Self {
            of,
            pace: Pace::new(&settings),
            numbers: Numbers::new(seed.wrapping_mul(0xD134_2543_DE82_EF95)),
            name: format!("th_{seed}"),
            learned: Means::default(),
            fixed: Means::default(),
            backed_off: Means::default(),
        }
    }

    fn run(&mut self, run: u32, from: u32) {
        let time = self.of.draw(&mut self.numbers, run);
        let cost = self.polled(run, time);
        if run >= from {
            self.learned.add(time, cost);
            self.fixed.add(time, at_intervals(time, INTERVAL));
            self.backed_off.add(time, backed_off(time, 10.0));
        }
    }

    /// As the proxy polls one run, alone under its key.
    fn polled(&self, run: u32, time: f64) -> (f64, u32) {
        let rhythm = self.pace.rhythm(&Tenant([0; 32]));
        let thread = ThreadId(format!("{}-{run}", self.name).into());
        let (mut last, mut polls) = (Duration::ZERO, 0);
        loop {
            let beat = Beat {
                so_far: last,
                polls,
                runs: 1,
            };
            let at = last + rhythm.wait(&thread, beat);
            polls += 1;
            let seconds = at.as_secs_f64();
            if seconds >= time {
                let bracket = Bracket {
                    after: last.as_secs_f64(),
                    by: seconds,
                };
                if let Some(learner) = rhythm.saw(bracket) {
                    learner.renew();
                }
                return (seconds - time, polls);
            }
            last = at;
        }
    }
}

fn at_intervals(time: f64, interval: f64) -> (f64, u32) {
    let polls = (time / interval).ceil().max(1.0);
    (polls * interval - time, polls as u32)
}

/// The usual back-off: a second, then half as long again each time, up to a bound.
fn backed_off(time: f64, most: f64) -> (f64, u32) {
    let (mut at, mut wait, mut polls) = (1.0, 1.0_f64, 1);
    while at < time {
        wait = (wait * 1.5).min(most);
        at += wait;
        polls += 1;
    }
    (at - time, polls)
}

/// All keys side by side, so that the pause between two plans costs little. `from` is the first run that
/// counts.
fn simulate(keys: &mut [Key], from: u32, to: u32) {
    for run in 0..to {
        let began = Instant::now();
        for key in &mut *keys {
            key.run(run, from);
        }
        // At first each run makes another plan, then about one in three does.
        let pause = if run < 25 { APART } else { APART / 3 };
        std::thread::sleep(pause.saturating_sub(began.elapsed()));
    }
}

pub fn run(plan: &Plan<'_>, bounds: &mut Bounds) -> io::Result<()> {
    let spreads: Vec<Spread> = KINDS
        .iter()
        .filter_map(|(name, ..)| name.parse().ok())
        .collect();
    let keys = |count: u64| -> Vec<Key> {
        let seeds = 1..=count;
        let each = spreads
            .iter()
            .flat_map(|of| seeds.clone().map(|seed| Key::new(*of, seed, INTERVAL)));
        each.collect()
    };
    let mut known = keys(plan.learners);
    let settled = known.len();
    known.extend(drawn(plan.learners));
    simulate(&mut known, KNOWN, RUNS);
    let others = known.split_off(settled);
    let mut cold = keys(plan.starts);
    simulate(&mut cold, 0, FIRST);
    let mut rows = Vec::new();
    for (kind, of) in KINDS.iter().zip(&spreads) {
        let (row, shares) = row(kind, *of, &known, &cold);
        rows.push(row);
        // Of fewer, the means wander further than the bounds leave room.
        if plan.starts >= STARTS {
            judge(kind, &shares, bounds);
        }
    }
    let head = [
        "",
        "fixed lag",
        "polls",
        "back-off lag",
        "polls",
        "learned lag",
        "p50",
        "p95",
        "polls",
        "PE",
        "least lag",
        "PE of optimum",
        "wanted",
        "PE of fixed",
        "wanted",
        "cold of fixed",
        "wanted",
    ];
    table::print(
        "lag by pace (seconds, by simulation of the proxy's own pace; 2 s least gap, 3 s interval)",
        &head,
        &rows,
    );
    let panels: Vec<Panel> = DRAWN
        .iter()
        .filter_map(|drawn| panel(*drawn, &known, &others))
        .collect();
    plot::write(plan.svg, &panels)?;
    println!("\ndrawn in {}", plan.svg.display());
    Ok(())
}

/// Those of one distribution and interval, as if they were one.
fn joined<'a>(keys: impl Iterator<Item = &'a Key>) -> [Means; 3] {
    let mut sums = [(); 3].map(|()| Means::default());
    for key in keys {
        for (sum, of) in sums
            .iter_mut()
            .zip([&key.learned, &key.fixed, &key.backed_off])
        {
            sum.join(of);
        }
    }
    sums
}

fn row(
    (name, least, cold_least): &(&str, f64, f64),
    of: Spread,
    known: &[Key],
    cold: &[Key],
) -> (Vec<String>, Shares) {
    let [learned, fixed, back] = joined(known.iter().filter(|key| key.of == of));
    let [first, first_fixed, _] = joined(cold.iter().filter(|key| key.of == of));
    let cost = learned.cost();
    let best = optimum::best(&parts(of), MIN_GAP, cost.polls);
    let efficiency = learned.efficiency(cost);
    let fixed_cost = fixed.cost();
    let against_fixed = |means: &Means, fixed: &Means| {
        means.efficiency(means.cost()) / fixed.efficiency(fixed.cost())
    };
    let shares = Shares {
        of_optimum: efficiency / learned.efficiency(best),
        of_fixed: against_fixed(&learned, &fixed),
        first_of_fixed: against_fixed(&first, &first_fixed),
    };
    let row = vec![
        (*name).to_owned(),
        shown(fixed_cost.lag, 2),
        shown(fixed_cost.polls, 2),
        shown(back.cost().lag, 2),
        shown(back.cost().polls, 2),
        shown(cost.lag, 2),
        shown(learned.percentile(0.5), 2),
        shown(learned.percentile(0.95), 2),
        shown(cost.polls, 2),
        shown(efficiency, 2),
        shown(best.lag, 2),
        shown(shares.of_optimum, 3),
        shown(*least, 2),
        shown(shares.of_fixed, 3),
        shown(OF_FIXED, 2),
        shown(shares.first_of_fixed, 3),
        shown(*cold_least, 2),
    ];
    (row, shares)
}

/// The efficiency that was reached, beside others.
struct Shares {
    of_optimum: f64,
    of_fixed: f64,
    /// Of the first runs.
    first_of_fixed: f64,
}

/// Simulated time is no clock: what falls short here would do so anywhere.
fn judge((name, least, cold_least): &(&str, f64, f64), shares: &Shares, bounds: &mut Bounds) {
    let mut judge = bounds.of(format!("paces, {name}"));
    let least = Count.at_least(*least);
    judge("PE of the optimum's", shares.of_optimum, least);
    let of_fixed = Count.at_least(OF_FIXED);
    judge("PE of the fixed interval's", shares.of_fixed, of_fixed);
    let cold_least = Count.at_least(*cold_least);
    judge("the same of cold starts", shares.first_of_fixed, cold_least);
}

/// What the counted runs were drawn from, with weights.
fn parts(of: Spread) -> Vec<(f64, Spread)> {
    let mut parts: Vec<(f64, Spread)> = Vec::new();
    for run in KNOWN..RUNS {
        let now = of.at(run);
        match parts.last_mut() {
            Some((weight, last)) if *last == now => *weight += 1.0,
            _ => parts.push((1.0, now)),
        }
    }
    parts
}

/// Keys that learn with other budgets.
fn drawn(learners: u64) -> Vec<Key> {
    let few = learners.div_ceil(2);
    let mut keys = Vec::new();
    for of in DRAWN.iter().filter_map(|(name, _)| name.parse().ok()) {
        for interval in INTERVALS
            .into_iter()
            .filter(|interval| *interval != INTERVAL)
        {
            keys.extend((1..=few).map(|seed| {
                let mut key = Key::new(of, seed + 1000, interval);
                key.name = format!("{interval} {seed}");
                key
            }));
        }
    }
    keys
}

fn panel((name, title): (&str, &str), known: &[Key], others: &[Key]) -> Option<Panel> {
    let of: Spread = name.parse().ok()?;
    let mut learned = Vec::new();
    for interval in INTERVALS {
        let lead = format!("{interval} ");
        let keys: Vec<&Key> = if interval == INTERVAL {
            known.iter().filter(|key| key.of == of).collect()
        } else {
            others
                .iter()
                .filter(|key| key.of == of && key.name.starts_with(&lead))
                .collect()
        };
        let [means, ..] = joined(keys.into_iter());
        learned.push(means.cost());
    }
    let mut numbers = Numbers::new(7);
    let times: Vec<f64> = (0..20_000).map(|run| of.draw(&mut numbers, run)).collect();
    let over = |pace: &dyn Fn(f64) -> (f64, u32)| {
        let mut means = Means::default();
        for time in &times {
            means.add(*time, pace(*time));
        }
        means.cost()
    };
    let fixed = (0..12).map(|step| {
        let interval = MIN_GAP + 0.3 * f64::from(step);
        over(&|time| at_intervals(time, interval))
    });
    let backed = [4.0, 6.0, 10.0, 20.0].map(|most| over(&|time| backed_off(time, most)));
    let prices = (0..40).map(|step| 0.05 * 1.15_f64.powi(step));
    Some(Panel {
        title: title.to_owned(),
        fixed: fixed.collect(),
        backed_off: backed.to_vec(),
        learned,
        best: optimum::curve(of, MIN_GAP, prices),
    })
}
