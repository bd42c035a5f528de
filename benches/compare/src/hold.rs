//! What a caller that waits costs, when thousands do, and what is given back once they were answered.

use std::io;
use std::time::{Duration, Instant};

use crate::child::{Process, Upstream, own};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::herd;
use crate::peers::Peer;
use crate::table::{self, shown};

/// Until what was held must be given back.
const LATER: Duration = Duration::from_secs(30);

pub struct Plan<'a> {
    pub callers: &'a [usize],
    pub peers: &'a [Peer],
    /// How long runs take: long enough for all to have asked.
    pub seconds: u32,
}

/// How callers want to be answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    AtOnce,
    Streamed,
}

pub fn run(ground: &Ground, plan: &Plan<'_>) -> io::Result<()> {
    let runs = format!("always:{}", plan.seconds);
    let upstream = Upstream::start(ground.folder.path(), &["--runs", &runs, "--answer", "100"])?;
    let proxy = Contender::Proxy(Store::Memory, Pace::Learned);
    let disk = Contender::Proxy(Store::Disk, Pace::Learned);
    let mut whom = vec![
        (Contender::Waits(plan.seconds), Answered::AtOnce),
        (Contender::Floor, Answered::AtOnce),
        (proxy, Answered::AtOnce),
        (disk, Answered::AtOnce),
        (proxy, Answered::Streamed),
    ];
    let peers = plan.peers.iter().filter(|peer| **peer != Peer::LiteLlm);
    whom.extend(peers.map(|peer| (Contender::Peer(*peer), Answered::AtOnce)));
    let mut rows = Vec::new();
    for callers in plan.callers {
        for (contender, answered) in &whom {
            // Those that cannot be pushed so far would only be waited for.
            if *callers > 10_000 && !matches!(contender, Contender::Proxy(..)) {
                continue;
            }
            match measured(ground, &upstream, (*contender, *answered), *callers) {
                Ok(row) => rows.push(row),
                Err(error) => println!("{contender}, {callers} callers: {error}"),
            }
        }
    }
    let head = [
        "",
        "callers",
        "KiB each",
        "idle MiB",
        "holding MiB",
        "30 s later",
        "kept of growth",
        "to upstream",
        "asked in s",
        "answered",
        "failed",
    ];
    table::print(
        "hold (at most 14.5 KiB each, 18 where streamed, a third of the growth kept)",
        &head,
        &rows,
    );
    Ok(())
}

fn measured(
    ground: &Ground,
    upstream: &Upstream,
    (contender, answered): (Contender, Answered),
    callers: usize,
) -> io::Result<Vec<String>> {
    let running = ground.start(contender, upstream.address)?;
    // Whatever is made for the first caller is not made for each.
    herd(&running, 1, Answered::AtOnce)?.result::<herd::Tally>()?;
    upstream.reset()?;
    let idle = resident(&running)?;
    let began = Instant::now();
    let mut herd = herd(&running, callers, answered)?;
    herd.prints(herd::WAITING)?;
    if !matches!(contender, Contender::Waits(_)) {
        all_posted(upstream, callers)?;
    }
    let asked = began.elapsed();
    // The last ones are polled for the first time.
    std::thread::sleep(Duration::from_secs(4));
    let holding = resident(&running)?;
    let connections = upstream.report()?.most_connections;
    let tally: herd::Tally = herd.result()?;
    std::thread::sleep(LATER);
    let later = resident(&running)?;
    if let Some(fault) = &tally.fault {
        println!("{contender}, {callers} callers: {fault}");
    }
    let kind = if answered == Answered::Streamed {
        ", streams"
    } else {
        ""
    };
    Ok(vec![
        format!("{contender}{kind}"),
        callers.to_string(),
        shown((holding - idle) * 1024.0 / callers as f64, 1),
        shown(idle, 1),
        shown(holding, 1),
        shown(later, 1),
        shown((later - idle) / (holding - idle), 2),
        connections.to_string(),
        shown(asked.as_secs_f64(), 1),
        tally.answered.to_string(),
        tally.failed.to_string(),
    ])
}

fn herd(running: &Running, callers: usize, answered: Answered) -> io::Result<Process> {
    let mut command = own(&["herd", &running.address.to_string()])?;
    command.args(["--callers", &callers.to_string()]);
    if answered == Answered::Streamed {
        command.arg("--stream");
    }
    let complaints = std::env::temp_dir().join(format!("herd-{}.log", std::process::id()));
    Process::start(&mut command, &complaints)
}

/// Waits until the upstream has every message.
fn all_posted(upstream: &Upstream, callers: usize) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let posts = upstream.report()?.posts;
        if posts >= callers as u64 {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "only {posts} of {callers} were posted"
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// In MiB.
fn resident(running: &Running) -> io::Result<f64> {
    let process = running.process.as_ref().ok_or(io::ErrorKind::NotFound)?;
    Ok(process.held()?.resident as f64 / 1024.0 / 1024.0)
}
