//! What a million conversations cost in the disk store, beside a thousand.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chaturdata_proxy::config::Config;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::store::Restored;
use chaturdata_proxy::store::backend::Nowhere;
use chaturdata_proxy::store::disk::{Disk, FILE, Opened};
use tokio::task::JoinSet;

use crate::bounds::Bounds;
use crate::bounds::By::{Clock, Count};
use crate::contender::{Ground, Store};
use crate::drive::words;
use crate::fill::fill;
use crate::rig::{AtOnce, Memory, Rig};
use crate::spread::Numbers;
use crate::start::{Started, started};
use crate::table::{self, median, shown};
use crate::wire;

/// How many conversations must be there for their sizes to tell anything: the latest 10,000 turns have
/// records of their own, and while many turns are written at once more is in use than they leave; both weigh
/// much where there are few conversations. A file may be twice as long as what was in use at most: it doubles
/// where there is no room left.
const SIZED: usize = 250_000;

/// Turns that are timed.
const TIMED: usize = 2000;
const TOGETHER: usize = 64;
const CHARACTERS: usize = 100;

/// How the conversations come about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Whole turns of the proxy.
    Turns,
    /// What turns write, without the rest of them.
    Fill,
}

/// What one state of so many conversations showed.
struct Seen {
    count: usize,
    bytes: u64,
    compacted: u64,
    open: Duration,
    /// Of the program: from exec to the first answer, and what it holds then and at most.
    started: Started,
    /// In microseconds.
    look_up: f64,
    turn: f64,
    /// In milliseconds, of turns that each push an old conversation out.
    evicting_p50: f64,
    evicting_most: f64,
}

impl Seen {
    fn each(&self, bytes: u64) -> f64 {
        bytes as f64 / self.count as f64
    }

    fn open_ms(&self) -> f64 {
        self.open.as_secs_f64() * 1000.0
    }
}

pub fn run(ground: &Ground, plan: &[(usize, By)], bounds: &mut Bounds) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut seen = Vec::new();
    for (at, (count, by)) in plan.iter().enumerate() {
        let folder = ground.folder.path().join(format!("store-{at}"));
        seen.push(runtime.block_on(measured(ground, (*count, *by), &folder))?);
        fs::remove_dir_all(folder)?;
    }
    judge(&seen, bounds);
    report(plan, &seen);
    Ok(())
}

/// What was promised of the largest state, by itself and beside the smallest.
fn judge(seen: &[Seen], bounds: &mut Bounds) {
    let (Some(few), Some(many)) = (seen.first(), seen.last()) else {
        return;
    };
    let mut judge = bounds.of(format!("store, {}", many.count));
    if many.count >= SIZED {
        let (file, compacted) = (many.each(many.bytes), many.each(many.compacted));
        judge("file, bytes each", file, Count.at_most(700.0));
        judge("compacted, bytes each", compacted, Count.at_most(400.0));
    }
    judge("open, ms", many.open_ms(), Clock.at_most(2000.0));
    let (look_up, turn) = (many.look_up / few.look_up, many.turn / few.turn);
    judge("look-up, of that at 1000", look_up, Clock.at_most(1.5));
    judge("turn, of that at 1000", turn, Clock.at_most(1.5));
    let slowest = many.evicting_most;
    judge("slowest eviction, ms", slowest, Clock.at_most(50.0));
}

fn report(plan: &[(usize, By)], seen: &[Seen]) {
    let ratio = |of: &dyn Fn(&Seen) -> f64| match seen {
        [few, .., many] => shown(of(many) / of(few), 2),
        _ => "-".to_owned(),
    };
    let line = |name: &str, of: &dyn Fn(&Seen) -> f64, digits| {
        let mut cells = vec![name.to_owned()];
        cells.extend(seen.iter().map(|seen| shown(of(seen), digits)));
        cells.push(ratio(of));
        cells
    };
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    let first = |seen: &Seen| seen.started.took.as_secs_f64() * 1000.0;
    let rows = [
        line("file, bytes each", &|seen| seen.each(seen.bytes), 0),
        line(
            "compacted, bytes each",
            &|seen| seen.each(seen.compacted),
            0,
        ),
        line("open, ms", &Seen::open_ms, 1),
        line("the program's first 200, ms", &first, 0),
        line("it holds, MiB", &|seen| mib(seen.started.held), 0),
        line("it held at most, MiB", &|seen| mib(seen.started.peak), 0),
        line("look-up, us", &|seen| seen.look_up, 1),
        line("a turn with its writes, us", &|seen| seen.turn, 1),
        line("a turn that evicts, ms", &|seen| seen.evicting_p50, 3),
        line("the slowest of them, ms", &|seen| seen.evicting_most, 1),
    ];
    let heads = plan.iter().map(|(count, by)| match by {
        By::Turns => format!("{count} turns"),
        By::Fill => format!("{count} filled in"),
    });
    let heads: Vec<String> = heads.collect();
    let mut head = vec![""];
    head.extend(heads.iter().map(String::as_str));
    head.push("ratio");
    table::print("store", &head, &rows);
}

fn config(max: usize) -> Config {
    let mut config = Config::default();
    config.conversations.max = max;
    config.run.max_active = 100_000;
    config.run.max_active_per_key = 100_000;
    config.server.max_waiting = 100_000;
    config.server.max_waiting_per_key = 100_000;
    config
}

/// An open state, with what was in it taken.
struct State {
    disk: Disk,
    salt: Salt,
    restored: Restored,
}

impl State {
    fn open(folder: &Path) -> io::Result<Self> {
        let mut restored = Restored::default();
        let opened = Disk::open(folder, &mut |table, key, value| {
            restored.take(table, key, value)
        });
        let Opened {
            disk,
            serving,
            facts,
            ..
        } = opened.map_err(|error| io::Error::other(error.to_string()))?;
        tokio::spawn(serving);
        Ok(Self {
            disk,
            salt: Salt::fixed(facts.salt),
            restored,
        })
    }

    fn rig(self, upstream: &Arc<AtOnce>, max: usize) -> (Rig, Disk) {
        let memory = Memory {
            backend: Arc::new(self.disk.clone()),
            salt: self.salt,
            restored: self.restored,
        };
        (
            Rig::new(config(max), Arc::clone(upstream), memory),
            self.disk,
        )
    }
}

async fn measured(ground: &Ground, (count, by): (usize, By), folder: &Path) -> io::Result<Seen> {
    let room = 4 * count + 10_000;
    let upstream = AtOnce::new();
    let state = State::open(folder)?;
    let began = Instant::now();
    match by {
        By::Turns => {
            let (rig, disk) = state.rig(&upstream, room);
            turns(&rig, 0..count, 4 * TOGETHER).await?;
            rig.shut_down().await;
            drop(rig);
            disk.close().await;
        }
        By::Fill => {
            fill(&state.disk, &state.salt, 0..count, name).await?;
            state.disk.close().await;
        }
    }
    println!(
        "{count} conversations begun in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let size = || fs::metadata(folder.join(FILE)).map(|found| found.len());
    let bytes = size()?;
    compact(&ground.binary, folder)?;
    let compacted = size()?;
    let started = started(ground, Store::Disk, folder, room)?;

    let began = Instant::now();
    let state = State::open(folder)?;
    let (rig, disk) = state.rig(&upstream, room);
    let open = began.elapsed();
    let look_up = look_ups(&rig, count).await?;
    let began = Instant::now();
    turns(&rig, count..count + TIMED, TOGETHER).await?;
    let turn = began.elapsed().as_secs_f64() * 1e6 / TIMED as f64;
    rig.shut_down().await;
    drop(rig);
    disk.close().await;
    let (evicting_p50, evicting_most) = evicting(folder, &upstream, count).await?;
    Ok(Seen {
        count,
        bytes,
        compacted,
        open,
        started,
        look_up,
        turn,
        evicting_p50,
        evicting_most,
    })
}

fn compact(binary: &Path, folder: &Path) -> io::Result<()> {
    let mut command = Command::new(binary);
    let done = command
        .args(["state", "compact", "--state-dir"])
        .arg(folder)
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(io::Error::other(words))
}

/// Begins so many conversations, several at a time.
async fn turns(rig: &Rig, numbers: std::ops::Range<usize>, together: usize) -> io::Result<()> {
    let (next, end) = (Arc::new(AtomicUsize::new(numbers.start)), numbers.end);
    let mut tasks: JoinSet<io::Result<()>> = JoinSet::new();
    for _ in 0..together {
        let (rig, next) = (rig.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return Ok(());
                }
                let body = body(&[message("user", &prompt(number))]);
                rig.ask(&name(number), body, false).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

/// How long it takes to decide where a turn belongs that resends its conversation, in microseconds.
async fn look_ups(rig: &Rig, count: usize) -> io::Result<f64> {
    let mut numbers = Numbers::new(3);
    let mut times = Vec::with_capacity(TIMED);
    // What the first conversation was told, as the mock words it for every one.
    for _ in 0..TIMED {
        let number = ((numbers.share() * count as f64) as usize).min(count - 1);
        let history = body(&[
            message("user", &prompt(number)),
            message("assistant", "a history that fits no tip"),
            message("user", "and then?"),
        ]);
        let began = Instant::now();
        let reply = rig.ask(&name(number), history, true).await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
        if reply.decision != "forked" {
            return Err(io::Error::other(format!("forked, not {}", reply.decision)));
        }
    }
    Ok(median(times))
}

/// How long turns take, in the middle and at most, when each pushes the oldest conversation out. Nothing
/// is written, so that no disk is measured.
async fn evicting(folder: &Path, upstream: &Arc<AtOnce>, count: usize) -> io::Result<(f64, f64)> {
    let state = State::open(folder)?;
    state.disk.close().await;
    let memory = Memory {
        backend: Arc::new(Nowhere),
        salt: state.salt,
        restored: state.restored,
    };
    let rig = Rig::new(config(count), Arc::clone(upstream), memory);
    let mut times = Vec::with_capacity(TIMED);
    for number in 0..TIMED {
        let number = 10 * count + number;
        let body = body(&[message("user", &prompt(number))]);
        let began = Instant::now();
        let reply = rig.ask(&name(number), body, false).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        if reply.decision != "created" || wire::content(&reply.body).is_empty() {
            return Err(io::Error::other(format!("created, not {}", reply.decision)));
        }
    }
    let most = times.iter().copied().fold(0.0, f64::max);
    Ok((median(times), most))
}

/// As long as the names that programs make up, and in no order.
fn name(number: usize) -> String {
    let mut numbers = Numbers::new(number as u64);
    let mut word = || (numbers.share() * 2_f64.powi(52)) as u64;
    format!("chat-{:013x}-{:013x}-{:03}", word(), word(), number % 1000)
}

fn prompt(number: usize) -> String {
    words(&format!("question of conversation {number}"), CHARACTERS)
}

fn message(role: &str, text: &str) -> String {
    format!("{{\"role\":\"{role}\",\"content\":\"{text}\"}}")
}

fn body(messages: &[String]) -> String {
    format!(
        "{{\"model\":\"chaturdata\",\"messages\":[{}]}}",
        messages.join(",")
    )
}
