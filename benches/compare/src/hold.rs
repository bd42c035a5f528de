//! What a caller that waits costs, when thousands do, and what is given back once they were answered.

use std::io;
use std::time::{Duration, Instant};

use crate::bounds::By::{Count, Memory};
use crate::bounds::{Bounds, CONNECTIONS};
use crate::child::{Process, Upstream, own, page};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::herd;
use crate::peers::Peer;
use crate::table::{self, shown};

/// Of several callers: one alone may take four fifths of all places.
const KEYS: &str = "8";

/// How long after the answers memory must have been given back.
const GIVEN_BACK: Duration = Duration::from_secs(30);

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

pub fn run(ground: &Ground, plan: &Plan<'_>, bounds: &mut Bounds) -> io::Result<()> {
    let runs = format!("always:{}", plan.seconds);
    let upstream = Upstream::start(ground.folder.path(), &["--runs", &runs, "--answer", "100"])?;
    let mut rows = Vec::new();
    for callers in plan.callers {
        for (contender, answered) in whom(plan, *callers) {
            let herded = Herded {
                contender,
                answered,
                callers: *callers,
                seconds: plan.seconds,
                later: plan.later,
            };
            table::next(&format_args!("{contender}, {callers} callers"));
            let seen = herded.measured(ground, &upstream);
            herded.judge(seen.as_ref().ok(), bounds);
            match seen {
                Ok(seen) => rows.push(herded.row(&seen)),
                Err(error) => println!("{}, {callers} callers: {error}", herded.name()),
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
    table::print("hold", &head, &rows);
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
    /// How long their runs take.
    seconds: u32,
    later: Duration,
}

/// What they showed. Memory is in MiB.
struct Seen {
    idle: f64,
    holding: f64,
    later: f64,
    connections: usize,
    asked: Duration,
    tally: herd::Tally,
}

impl Seen {
    fn kib_each(&self, callers: usize) -> f64 {
        (self.holding - self.idle) * 1024.0 / callers as f64
    }

    fn kept(&self) -> f64 {
        (self.later - self.idle) / (self.holding - self.idle)
    }
}

impl Herded {
    fn measured(&self, ground: &Ground, upstream: &Upstream) -> io::Result<Seen> {
        let (contender, callers) = (self.contender, self.callers);
        let runs = Duration::from_secs(self.seconds.into());
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
        let is_too_late = began.elapsed() > runs;
        let tally: herd::Tally = herd.result()?;
        let connections = upstream.report()?.most_connections;
        std::thread::sleep(self.later);
        let later = resident(&running)?;
        if let Some(fault) = &tally.fault {
            println!("{contender}, {callers} callers: {fault}");
        }
        Ok(Seen {
            idle,
            // What those hold who have their answers already says nothing.
            holding: if is_too_late { f64::NAN } else { holding },
            later,
            connections,
            asked,
            tally,
        })
    }

    /// What was promised of the proxy; nothing is promised of the others.
    fn judge(&self, seen: Option<&Seen>, bounds: &mut Bounds) {
        if !matches!(self.contender, Contender::Proxy(..)) {
            return;
        }
        let (name, callers) = (self.name(), self.callers);
        let mut judge = bounds.of(format!("hold, {callers}, {name}"));
        let of = |figure: fn(&Seen) -> f64| seen.map_or(f64::NAN, figure);
        let each = seen.map_or(f64::NAN, |seen| seen.kib_each(callers));
        let most = match self.answered {
            Answered::AtOnce => 14.5,
            Answered::Streamed => 18.0,
        };
        judge("KiB each", each, Memory.at_most(most));
        let answered = of(|seen| seen.tally.answered as f64);
        judge("answered", answered, Count.at_least(callers as f64));
        let failed = of(|seen| seen.tally.failed as f64);
        judge("failed", failed, Count.at_most(0.0));
        let connections = of(|seen| seen.connections as f64);
        judge("to upstream", connections, Count.at_most(CONNECTIONS));
        if self.later >= GIVEN_BACK {
            let third = Memory.at_most(1.0 / 3.0);
            judge("kept of growth", of(Seen::kept), third);
        }
    }

    fn name(&self) -> String {
        match self.answered {
            Answered::AtOnce => self.contender.to_string(),
            Answered::Streamed => format!("{}, streams", self.contender),
        }
    }

    fn row(&self, seen: &Seen) -> Vec<String> {
        vec![
            self.name(),
            self.callers.to_string(),
            shown(seen.kib_each(self.callers), 1),
            shown(seen.idle, 1),
            shown(seen.holding, 1),
            shown(seen.later, 1),
            shown(seen.kept(), 2),
            seen.connections.to_string(),
            shown(seen.asked.as_secs_f64(), 1),
            seen.tally.answered.to_string(),
            seen.tally.failed.to_string(),
        ]
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
