//! What a caller that waits costs, when thousands do, and what is given back once they were answered.

use std::io;
use std::time::{Duration, Instant};

use crate::child::{Process, Upstream, own, page};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::herd;
use crate::peers::Peer;
use crate::table::{self, shown};

/// Of several callers: one alone may take four fifths of all places.
const KEYS: &str = "8";

pub struct Plan<'a> {
    pub callers: &'a [usize],
    pub peers: &'a [Peer],
    /// How long runs take: long enough for all to have asked.
    pub seconds: u32,
    /// Until what was held must have been given back.
    pub later: Duration,
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
    let mut rows = Vec::new();
    for callers in plan.callers {
        for (contender, answered) in whom(plan, *callers) {
            let row = Herded {
                contender,
                answered,
                callers: *callers,
                later: plan.later,
            };
            table::next(&format_args!("{contender}, {callers} callers"));
            match row.measured(ground, &upstream) {
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
        "later",
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

/// The proxy always, and beside it what waits for nothing; the others once, where it is hard and they
/// can still follow.
fn whom(plan: &Plan<'_>, callers: usize) -> Vec<(Contender, Answered)> {
    const HARD: usize = 10_000;
    let memory = Contender::Proxy(Store::Memory, Pace::Learned);
    let mut whom = vec![(memory, Answered::AtOnce), (memory, Answered::Streamed)];
    if callers <= HARD {
        whom.push((Contender::Waits(plan.seconds), Answered::AtOnce));
    }
    if callers == HARD {
        whom.push((
            Contender::Proxy(Store::Disk, Pace::Learned),
            Answered::AtOnce,
        ));
        whom.push((Contender::Floor, Answered::AtOnce));
        let peers = plan.peers.iter().filter(|peer| **peer != Peer::LiteLlm);
        whom.extend(peers.map(|peer| (Contender::Peer(*peer), Answered::AtOnce)));
    }
    whom
}

/// So many callers of one contender.
struct Herded {
    contender: Contender,
    answered: Answered,
    callers: usize,
    later: Duration,
}

impl Herded {
    fn measured(&self, ground: &Ground, upstream: &Upstream) -> io::Result<Vec<String>> {
        let (contender, callers) = (self.contender, self.callers);
        let running = ground.start(contender, upstream.address)?;
        // Whatever is made for the first connection is not made for each. Some know no such page.
        let _ = page(running.address, "/livez");
        upstream.reset()?;
        let idle = resident(&running)?;
        let began = Instant::now();
        let mut herd = herd(&running, callers, self.answered)?;
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
        std::thread::sleep(self.later);
        let later = resident(&running)?;
        if let Some(fault) = &tally.fault {
            println!("{contender}, {callers} callers: {fault}");
        }
        let kind = if self.answered == Answered::Streamed {
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
}

fn herd(running: &Running, callers: usize, answered: Answered) -> io::Result<Process> {
    let mut command = own(&["herd", &running.address.to_string()])?;
    command.args(["--callers", &callers.to_string(), "--keys", KEYS]);
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
