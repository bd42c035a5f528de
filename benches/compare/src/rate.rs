//! How many turns a second, at what cost, and how much later than without anything between.

use std::collections::HashMap;
use std::io;

use crate::child::{Process, Upstream, own};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::drive;
use crate::machine::{Foreign, Used};
use crate::peers::Peer;
use crate::table::{self, median, shown};

const HISTORIES: [usize; 3] = [2, 20, 200];

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

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    history: usize,
    seconds: f64,
}

pub fn run(ground: &Ground, plan: &Plan<'_>) -> io::Result<()> {
    let upstream = Upstream::start(ground.folder.path(), &[])?;
    let memory = Contender::Proxy(Store::Memory, Pace::Learned);
    let ours = [
        Contender::Direct,
        Contender::Floor,
        Contender::Pair,
        memory,
        Contender::Proxy(Store::Memory, Pace::Fixed),
        Contender::Proxy(Store::Disk, Pace::Learned),
    ];
    let peers = plan.peers.iter().map(|peer| Contender::Peer(*peer));
    let mut running = Vec::new();
    for contender in ours.into_iter().chain(peers) {
        match ground.start(contender, upstream.address) {
            Ok(started) => running.push(started),
            Err(error) => println!("SKIPPED: {contender}: {error}"),
        }
    }
    for connections in [1, 64, 512] {
        let load = Load {
            connections,
            history: 20,
            seconds: plan.seconds,
        };
        let samples = rounds(&running, &upstream, plan.rounds, load)?;
        report(
            &format!("rate: {connections} connections, 20 messages before each prompt"),
            &running,
            &samples,
        );
    }
    let few: Vec<Running> = running
        .into_iter()
        .filter(|running| [Contender::Floor, memory].contains(&running.contender))
        .collect();
    for history in HISTORIES {
        let load = Load {
            connections: 64,
            history,
            seconds: plan.seconds,
        };
        let samples = rounds(&few, &upstream, plan.rounds, load)?;
        report(
            &format!("rate: 64 connections, {history} messages before each prompt"),
            &few,
            &samples,
        );
    }
    Ok(())
}

/// Round after round, so that what disturbs one disturbs all.
fn rounds(
    running: &[Running],
    upstream: &Upstream,
    rounds: usize,
    load: Load,
) -> io::Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); running.len()];
    for round in 0..rounds {
        for (one, samples) in running.iter().zip(&mut samples) {
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
    Ok(samples)
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

fn report(title: &str, running: &[Running], samples: &[Vec<Sample>]) {
    let of: HashMap<String, &Vec<Sample>> = running
        .iter()
        .zip(samples)
        .map(|(running, samples)| (running.contender.to_string(), samples))
        .collect();
    let beside = |contender: Contender| of.get(&contender.to_string()).copied();
    let (floor, direct) = (beside(Contender::Floor), beside(Contender::Direct));
    let mut rows = Vec::new();
    for (one, samples) in running.iter().zip(samples) {
        let all = |of: fn(&Sample) -> f64| median(samples.iter().map(of));
        let against = |other: Option<&Vec<Sample>>, compared: fn(&Sample, &Sample) -> f64| {
            let pairs = samples.iter().zip(other.into_iter().flatten());
            median(pairs.map(|(sample, other)| compared(sample, other)))
        };
        let faults: usize = samples.iter().map(|sample| sample.faults).sum();
        rows.push(vec![
            one.contender.to_string(),
            shown(all(|sample| sample.rate), 0),
            shown(against(floor, |sample, floor| sample.rate / floor.rate), 2),
            shown(all(|sample| sample.cpu), 3),
            shown(against(floor, |sample, floor| sample.cpu / floor.cpu), 2),
            shown(all(|sample| sample.p50), 3),
            shown(against(direct, |sample, direct| sample.p50 - direct.p50), 3),
            shown(all(|sample| sample.p99), 2),
            faults.to_string(),
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
    for (one, samples) in running.iter().zip(samples) {
        if let Some(fault) = samples.iter().find_map(|sample| sample.fault.as_ref()) {
            println!("{}: {fault}", one.contender);
        }
    }
}
