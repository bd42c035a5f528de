//! Much at once: what the upstream sees of it second by second, who waits for whom, and what it takes.

use std::io;
use std::time::Duration;

use crate::bounds::By::Count;
use crate::bounds::{Bounds, CONNECTIONS};
use crate::child::{Process, Upstream, own, page};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::herd;
use crate::mock;
use crate::table::{self, shown};

pub struct Plan {
    pub callers: usize,
    /// Requests on one handle.
    pub deltas: usize,
    /// How long the upstream does not answer.
    pub stall: u32,
}

/// Keys that ask, of which each has as many callers.
const KEYS: usize = 5;

/// Of a handle, one turn is under way and four wait; whoever comes then is told to come later.
const ON_ONE_HANDLE: f64 = 5.0;

/// The least time between two reads of one run, in seconds, by default.
const MIN_GAP: f64 = 2.0;

/// By how much chance alone may part keys whose callers ask alike.
const UNEVEN: f64 = 1.5;

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storm {
    AllAtOnce,
    OneHandle,
    Stall(u32),
}

pub fn run(ground: &Ground, plan: &Plan, bounds: &mut Bounds) -> io::Result<()> {
    let storms = [
        (Storm::AllAtOnce, plan.callers),
        (Storm::OneHandle, plan.deltas),
        (Storm::Stall(plan.stall), plan.callers),
    ];
    let mut rows = Vec::new();
    for (storm, callers) in storms {
        table::next(&named(storm, callers));
        let seen = measured(ground, storm, callers);
        judge((storm, callers), seen.as_ref().ok(), bounds);
        match seen {
            Ok(seen) => rows.push(row(storm, callers, &seen)),
            Err(error) => println!("{}: {error}", named(storm, callers)),
        }
    }
    let head = [
        "",
        "answered",
        "429",
        "failed",
        "posts",
        "reads/s at most",
        "in 0.1 s",
        "mean",
        "to upstream",
        "slowest key of fastest",
        "idle MiB",
        "most MiB",
    ];
    table::print(
        "storms (5 keys; reads and posts in each second above)",
        &head,
        &rows,
    );
    Ok(())
}

/// What it took. Memory is in MiB.
struct Seen {
    tally: herd::Tally,
    report: mock::Report,
    idle: f64,
    most: f64,
}

impl Seen {
    /// How long the callers of one key waited on the mean, of those of another.
    fn slowest_of_fastest(&self) -> f64 {
        let of_keys = self.tally.keys.iter().copied();
        let slowest = of_keys.clone().fold(f64::NAN, f64::max);
        slowest / of_keys.fold(f64::NAN, f64::min)
    }

    /// In one second.
    fn most_reads(&self) -> f64 {
        let most = self.report.rate.iter().max();
        most.map_or(f64::NAN, |reads| f64::from(*reads))
    }
}

fn judge((storm, callers): (Storm, usize), seen: Option<&Seen>, bounds: &mut Bounds) {
    let mut judge = bounds.of(named(storm, callers));
    let of = |figure: fn(&Seen) -> f64| seen.map_or(f64::NAN, figure);
    let failed = of(|seen| seen.tally.failed as f64);
    judge("failed", failed, Count.at_most(0.0));
    let connections = of(|seen| seen.report.most_connections as f64);
    judge("to upstream", connections, Count.at_most(CONNECTIONS));
    let answered = of(|seen| seen.tally.answered as f64);
    let all = callers as f64;
    if storm == Storm::OneHandle {
        let refused = of(|seen| seen.tally.refused as f64);
        judge("answered", answered, Count.at_least(ON_ONE_HANDLE));
        judge("429", refused, Count.at_least(all - ON_ONE_HANDLE));
        return;
    }
    judge("answered", answered, Count.at_least(all));
    let share = of(Seen::slowest_of_fastest);
    judge("slowest key of fastest", share, Count.at_most(UNEVEN));
    // Twice as many as when all are read evenly at the least gap, and those that a standstill has held up
    // on their connections. A herd has most of the runs in it.
    let most = CONNECTIONS + 2.0 * all / MIN_GAP / 10.0;
    let together = of(|seen| f64::from(seen.report.most_in_a_tenth));
    judge("reads within 0.1 s", together, Count.at_most(most));
}

fn named(storm: Storm, callers: usize) -> String {
    match storm {
        Storm::AllAtOnce => format!("{callers} callers at once"),
        Storm::OneHandle => format!("{callers} requests on one handle"),
        Storm::Stall(seconds) => format!("{callers} callers, {seconds} s without an answer"),
    }
}

fn measured(ground: &Ground, storm: Storm, callers: usize) -> io::Result<Seen> {
    let runs = match storm {
        Storm::AllAtOnce => "lognormal:8:0.6".to_owned(),
        Storm::OneHandle => "always:4".to_owned(),
        // Most of them last until the standstill, and beyond it.
        Storm::Stall(seconds) => format!("lognormal:{}:0.6", seconds.max(10)),
    };
    let arguments = ["--runs", &runs, "--answer", "100"];
    let upstream = Upstream::start(ground.folder.path(), &arguments)?;
    let contender = Contender::Proxy(Store::Memory, Pace::Learned);
    let running = ground.start(contender, upstream.address)?;
    page(running.address, "/livez")?;
    let idle = resident(&running)?;
    let mut command = own(&["herd", &running.address.to_string()])?;
    command.args(["--callers", &callers.to_string()]);
    match storm {
        Storm::OneHandle => command.args(["--handle", "storm"]),
        _ => command.args(["--keys", &KEYS.to_string()]),
    };
    if storm == Storm::AllAtOnce {
        // As many connections as the others open one after another.
        command.args(["--opening", &callers.to_string()]);
    }
    let complaints = ground.folder.path().join("herd.log");
    let mut herd = Process::start(&mut command, &complaints)?;
    if let Storm::Stall(seconds) = storm {
        herd.prints(herd::WAITING)?;
        std::thread::sleep(Duration::from_secs(8));
        page(upstream.address, &format!("/stall?{seconds}"))?;
    }
    let mut most = idle;
    while !herd.has_ended() {
        most = most.max(resident(&running)?);
        std::thread::sleep(Duration::from_millis(250));
    }
    let tally: herd::Tally = herd.result()?;
    let report = upstream.report()?;
    if let Some(fault) = &tally.fault {
        println!("{}: {fault}", named(storm, callers));
    }
    println!("{}: reads {:?}", named(storm, callers), report.rate);
    println!("{}: posts {:?}", named(storm, callers), report.post_rate);
    Ok(Seen {
        tally,
        report,
        idle,
        most,
    })
}

fn row(storm: Storm, callers: usize, seen: &Seen) -> Vec<String> {
    let Seen { tally, report, .. } = seen;
    let seconds = report.rate.len().max(1) as f64;
    vec![
        named(storm, callers),
        tally.answered.to_string(),
        tally.refused.to_string(),
        tally.failed.to_string(),
        report.posts.to_string(),
        shown(seen.most_reads(), 0),
        report.most_in_a_tenth.to_string(),
        shown(report.reads as f64 / seconds, 0),
        report.most_connections.to_string(),
        shown(seen.slowest_of_fastest(), 2),
        shown(seen.idle, 1),
        shown(seen.most, 1),
    ]
}

/// In MiB.
fn resident(running: &Running) -> io::Result<f64> {
    let process = running.process.as_ref().ok_or(io::ErrorKind::NotFound)?;
    Ok(process.held()?.resident as f64 / 1024.0 / 1024.0)
}
