//! How many turns a second, at what cost, and how much later than without anything between.

use std::io;

use crate::bounds::Bounds;
use crate::bounds::By::{Clock, Count};
use crate::child::{Process, Upstream, own};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::drive;
use crate::machine::{Foreign, Used};
use crate::peers::Peer;
use crate::table::{self, median, shown};

const HISTORIES: [usize; 3] = [2, 20, 200];

const MEMORY: Contender = Contender::Proxy(Store::Memory, Pace::Learned);
const FIXED: Contender = Contender::Proxy(Store::Memory, Pace::Fixed);
const DISK: Contender = Contender::Proxy(Store::Disk, Pace::Learned);

/// For how many seconds a lone connection must be watched, or a disk that others use too, for their times
/// to say anything.
const TELLING: f64 = 3.0;

/// How long each is measured, and how often.
pub struct Plan<'a> {
    pub seconds: f64,
    pub rounds: usize,
    pub peers: &'a [Peer],
}

/// One measurement of one contender.
#[derive(Clone, Debug)]
struct Sample {
    rate: f64,
    /// Seconds per 1,000 turns.
    cpu: f64,
    /// In milliseconds.
    p50: f64,
    p99: f64,
    faults: usize,
    fault: Option<String>,
    foreign: Foreign,
}

impl Sample {
    fn turns_of(&self, other: &Self) -> f64 {
        self.rate / other.rate
    }

    fn cpu_of(&self, other: &Self) -> f64 {
        self.cpu / other.cpu
    }

    fn added(&self, other: &Self) -> f64 {
        self.p50 - other.p50
    }
}

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    history: usize,
    seconds: f64,
}

pub fn run(ground: &Ground, plan: &Plan<'_>, bounds: &mut Bounds) -> io::Result<()> {
    let upstream = Upstream::start(ground.folder.path(), &[])?;
    let bare = [Contender::Direct, Contender::Floor, Contender::Pair];
    let ours = bare.into_iter().chain([MEMORY, FIXED, DISK]);
    let peers = plan.peers.iter().map(|peer| Contender::Peer(*peer));
    let mut running = Vec::new();
    for contender in ours.chain(peers) {
        match ground.start(contender, upstream.address) {
            Ok(started) => running.push(started),
            Err(error) => println!("SKIPPED: {contender}: {error}"),
        }
    }
    let load = |connections, history| Load {
        connections,
        history,
        seconds: plan.seconds,
    };
    for load in [1, 64, 512].map(|connections| load(connections, 20)) {
        let seen = rounds(&running, &upstream, plan.rounds, load)?;
        report(
            &format!(
                "rate: {} connections, 20 messages before each prompt",
                load.connections
            ),
            &seen,
        );
        judge(load, &seen, bounds);
    }
    running.retain(|running| [Contender::Floor, MEMORY].contains(&running.contender));
    let mut costs = Vec::new();
    for history in HISTORIES {
        let seen = rounds(&running, &upstream, plan.rounds, load(64, history))?;
        report(
            &format!("rate: 64 connections, {history} messages before each prompt"),
            &seen,
        );
        let what = format!("rate, {history} messages before: faults");
        bounds.judge(what, seen.faults(MEMORY), Count.at_most(0.0));
        costs.push(seen.median(MEMORY, |sample| sample.cpu));
    }
    // Ten times the bytes may cost ten times as much.
    if let [_, some, many] = costs.as_slice() {
        let what = "rate: CPU at 200 messages before, of that at 20";
        bounds.judge(what, many / some, Clock.at_most(10.0));
    }
    Ok(())
}

/// What was promised under this load, with 20 messages before each prompt.
fn judge(load: Load, seen: &Seen<'_>, bounds: &mut Bounds) {
    let connections = load.connections;
    let is_telling = load.seconds >= TELLING;
    let mut judge = bounds.of(format!("rate, {connections}"));
    // A floor that fails would be easily reached.
    let all = [
        Contender::Direct,
        Contender::Floor,
        Contender::Pair,
        MEMORY,
        FIXED,
        DISK,
    ];
    for contender in all {
        let faults = seen.faults(contender);
        judge(&format!("{contender}: faults"), faults, Count.at_most(0.0));
    }
    if connections == 1 {
        if is_telling {
            let added = seen.against(MEMORY, Contender::Direct, Sample::added);
            judge("added at the median, ms", added, Clock.at_most(0.10));
        }
        return;
    }
    let turns = |proxy, other| seen.against(proxy, other, Sample::turns_of);
    let cpu = seen.against(MEMORY, Contender::Floor, Sample::cpu_of);
    let of_floor = turns(MEMORY, Contender::Floor);
    judge("turns/s, of the floor's", of_floor, Clock.at_least(1.0));
    judge("CPU, of the floor's", cpu, Clock.at_most(1.0));
    let of_pair = turns(MEMORY, Contender::Pair);
    judge("turns/s, of the pair's", of_pair, Clock.at_least(0.75));
    if is_telling {
        let disk = turns(DISK, Contender::Floor);
        judge("disk, turns/s, of the floor's", disk, Clock.at_least(0.8));
    }
}

/// What each showed under one load, round by round.
struct Seen<'a> {
    of: Vec<(&'a Running, Vec<Sample>)>,
}

impl Seen<'_> {
    /// Nothing of one that did not start.
    fn samples(&self, contender: Contender) -> &[Sample] {
        let found = self.of.iter().find(|(one, _)| one.contender == contender);
        found.map_or(&[], |(_, samples)| samples)
    }

    fn median(&self, contender: Contender, of: fn(&Sample) -> f64) -> f64 {
        median(self.samples(contender).iter().map(of))
    }

    /// Compares what the two showed in the same round.
    fn against(
        &self,
        contender: Contender,
        other: Contender,
        compared: fn(&Sample, &Sample) -> f64,
    ) -> f64 {
        let pairs = self.samples(contender).iter().zip(self.samples(other));
        median(pairs.map(|(sample, other)| compared(sample, other)))
    }

    /// Of all rounds; not a number where nothing was answered in one of them.
    fn faults(&self, contender: Contender) -> f64 {
        let samples = self.samples(contender);
        if samples.is_empty() || samples.iter().any(|sample| sample.rate == 0.0) {
            return f64::NAN;
        }
        samples.iter().map(|sample| sample.faults).sum::<usize>() as f64
    }
}

/// Round after round, so that what disturbs one disturbs all.
fn rounds<'a>(
    running: &'a [Running],
    upstream: &Upstream,
    rounds: usize,
    load: Load,
) -> io::Result<Seen<'a>> {
    let mut of: Vec<_> = running.iter().map(|one| (one, Vec::new())).collect();
    for round in 0..rounds {
        // Who comes after whom is worth some of what is measured: each round begins with another.
        let (last, first) = of.split_at_mut(round * running.len() / rounds);
        for (one, samples) in first.iter_mut().chain(last) {
            // Peers are far from everything else.
            if round > 0 && matches!(one.contender, Contender::Peer(_)) {
                continue;
            }
            let contender = one.contender;
            table::next(&format_args!(
                "{contender}, {} connections",
                load.connections
            ));
            samples.push(sample(one, upstream, load)?);
        }
    }
    Ok(Seen { of })
}

fn sample(running: &Running, upstream: &Upstream, load: Load) -> io::Result<Sample> {
    let mut command = own(&["drive", &running.address.to_string()])?;
    // Peers are slow, and have one round only.
    let seconds = match running.contender {
        Contender::Peer(_) => load.seconds.max(3.0),
        _ => load.seconds,
    };
    let warm = seconds / 4.0;
    command
        .args(["--connections", &load.connections.to_string()])
        .args(["--history", &load.history.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .args(["--warm", &warm.max(0.3).to_string()]);
    match running.contender {
        Contender::Direct => command.arg("--direct"),
        Contender::Proxy(..) => command.arg("--checked"),
        _ => &mut command,
    };
    let complaints = std::env::temp_dir().join(format!("drive-{}.log", std::process::id()));
    let mut driver = Process::start(&mut command, &complaints)?;
    driver.prints(drive::BEGIN)?;
    let used = |process: &Process| process.held().map_or(0.0, |held| held.seconds);
    let target = || running.process.as_ref().map_or(0.0, used);
    let own = |driver: &Process| target() + used(&upstream.process) + used(driver);
    let (machine, all, cpu) = (Used::until_now()?, own(&driver), target());
    // What the driver itself uses is read before it ends.
    let ends = std::time::Duration::from_secs_f64(seconds * 0.98);
    std::thread::sleep(ends);
    let foreign = Used::until_now()?.foreign(machine, own(&driver) - all, ends.as_secs_f64());
    let tally: drive::Tally = driver.result()?;
    let cpu = target() - cpu;
    let turns = (tally.turns + tally.openings) as f64;
    let timed = |microseconds: u32| match tally.turns {
        0 => f64::NAN,
        _ => f64::from(microseconds) / 1000.0,
    };
    Ok(Sample {
        rate: turns / tally.seconds,
        cpu: if turns > 0.0 && running.process.is_some() {
            1000.0 * cpu / turns
        } else {
            f64::NAN
        },
        p50: timed(tally.p50_us),
        p99: timed(tally.p99_us),
        faults: tally.failed + tally.strays,
        fault: tally.fault,
        foreign,
    })
}

fn report(title: &str, seen: &Seen<'_>) {
    let mut rows = Vec::new();
    for (one, samples) in &seen.of {
        let contender = one.contender;
        let all = |of: fn(&Sample) -> f64| median(samples.iter().map(of));
        let beside = |other, compared| seen.against(contender, other, compared);
        rows.push(vec![
            contender.to_string(),
            shown(all(|sample| sample.rate), 0),
            shown(beside(Contender::Floor, Sample::turns_of), 2),
            shown(all(|sample| sample.cpu), 3),
            shown(beside(Contender::Floor, Sample::cpu_of), 2),
            shown(all(|sample| sample.p50), 3),
            shown(beside(Contender::Direct, Sample::added), 3),
            shown(all(|sample| sample.p99), 2),
            shown(seen.faults(contender), 0),
            shown(all(|sample| sample.foreign.others), 2),
            shown(all(|sample| sample.foreign.stolen), 2),
        ]);
    }
    let head = [
        "",
        "turns/s",
        "of floor",
        "CPU-s per 1,000",
        "of floor",
        "p50 ms",
        "added ms",
        "p99 ms",
        "faults",
        "other load",
        "stolen",
    ];
    table::print(title, &head, &rows);
    for (one, samples) in &seen.of {
        if let Some(fault) = samples.iter().find_map(|sample| sample.fault.as_ref()) {
            println!("{}: {fault}", one.contender);
        }
    }
}
