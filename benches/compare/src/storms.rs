//! Much at once: what the upstream sees of it second by second, who waits for whom, and what it takes.

use std::io;
use std::time::Duration;

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

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storm {
    AllAtOnce,
    OneHandle,
    Stall(u32),
}

pub fn run(ground: &Ground, plan: &Plan) -> io::Result<()> {
    let storms = [
        (Storm::AllAtOnce, plan.callers),
        (Storm::OneHandle, plan.deltas),
        (Storm::Stall(plan.stall), plan.callers),
    ];
    let mut rows = Vec::new();
    for (storm, callers) in storms {
        table::next(&named(storm, callers));
        match measured(ground, storm, callers) {
            Ok(row) => rows.push(row),
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

fn named(storm: Storm, callers: usize) -> String {
    match storm {
        Storm::AllAtOnce => format!("{callers} callers at once"),
        Storm::OneHandle => format!("{callers} requests on one handle"),
        Storm::Stall(seconds) => format!("{callers} callers, {seconds} s without an answer"),
    }
}

fn measured(ground: &Ground, storm: Storm, callers: usize) -> io::Result<Vec<String>> {
    let runs = match storm {
        Storm::AllAtOnce => "lognormal:8:0.6",
        Storm::OneHandle => "always:4",
        Storm::Stall(_) => "lognormal:30:0.6",
    };
    let arguments = ["--runs", runs, "--answer", "100"];
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
    Ok(row(storm, callers, &tally, &report, (idle, most)))
}

fn row(
    storm: Storm,
    callers: usize,
    tally: &herd::Tally,
    report: &mock::Report,
    (idle, most): (f64, f64),
) -> Vec<String> {
    let seconds = report.rate.len().max(1) as f64;
    let of_keys = tally.keys.iter().copied();
    let slowest = of_keys.clone().fold(0.0_f64, f64::max);
    let fastest = of_keys.fold(f64::INFINITY, f64::min);
    vec![
        named(storm, callers),
        tally.answered.to_string(),
        tally.refused.to_string(),
        tally.failed.to_string(),
        report.posts.to_string(),
        report.rate.iter().max().copied().unwrap_or(0).to_string(),
        shown(report.reads as f64 / seconds, 0),
        report.most_connections.to_string(),
        shown(slowest / fastest, 2),
        shown(idle, 1),
        shown(most, 1),
    ]
}

/// In MiB.
fn resident(running: &Running) -> io::Result<f64> {
    let process = running.process.as_ref().ok_or(io::ErrorKind::NotFound)?;
    Ok(process.held()?.resident as f64 / 1024.0 / 1024.0)
}
