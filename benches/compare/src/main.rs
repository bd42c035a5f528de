//! Measures the proxy beside the bare libraries, and beside what people would use in its place: builds
//! what it needs, prints one table after the other, and fails where a figure is out of bounds.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is measured goes by the real clock, and every task ends with its process"
)]

mod bounds;
mod child;
mod contender;
mod drive;
mod fill;
mod floor;
mod herd;
mod hold;
mod lag;
mod machine;
mod mock;
mod optimum;
mod paces;
mod pair;
mod peers;
mod plot;
mod rate;
mod rig;
mod shim;
mod spread;
mod start;
mod store;
mod storms;
mod table;
mod turns;
mod wire;

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use process::Folder;

use crate::bounds::Bounds;
use crate::contender::{Contender, Ground, Pace, Store};
use crate::peers::Peer;
use crate::store::By;

/// Measures the proxy beside the bare libraries, and beside what people would use in its place
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    whole: Whole,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(clap::Args)]
struct Whole {
    /// A proxy that is built already; without it, the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    /// All of it in some minutes: less of everything, peers only where they are installed; what so little
    /// says nothing of is not judged
    #[arg(long)]
    quick: bool,
    /// Fail where any figure is beyond what was promised of it; without this, times fail at three times
    /// their bound, resident memory at one and a quarter, and a count or a size at the bound
    #[arg(long)]
    strict: bool,
    /// Only these, with commas between
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Mode>,
    /// Leave out what people would use in the proxy's place
    #[arg(long)]
    no_peers: bool,
    /// Rounds of each rate; an odd number has a middle
    #[arg(long)]
    rounds: Option<usize>,
    /// How many conversations the largest state holds; a million by default
    #[arg(long)]
    conversations: Option<usize>,
    /// Where lag against polls is drawn; by default where the README shows it, in the target folder
    /// where it is quick
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// From exec to the first answer
    Start,
    /// Turns a second, and what they cost
    Rate,
    /// Paces, by simulation
    Paces,
    /// Polls of thousands of runs
    Lag,
    /// Callers that wait
    Hold,
    /// Much at once
    Storms,
    /// A million conversations
    Store,
}

/// Those who take part, each in a process of its own.
#[derive(Subcommand)]
enum Part {
    /// The upstream
    Mock(mock::Options),
    /// axum and reqwest
    Floor(shim::Options),
    /// hyper and hyper
    Pair(shim::Options),
    /// An axum that only waits
    Waits(floor::Waits),
    /// Connections that each carry on a conversation
    Drive(drive::Options),
    /// Callers that wait, each on a connection of its own
    Herd(herd::Options),
    /// Turns within this process, for callgrind
    Turns(turns::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(part) => take_part(part),
        None => compare(&arguments.whole),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn take_part(part: Part) -> io::Result<()> {
    match part {
        Part::Mock(options) => on_all(mock::serve(options)),
        Part::Floor(options) => on_all(floor::serve(options)),
        Part::Pair(options) => on_all(pair::serve(options)),
        Part::Waits(options) => on_all(floor::wait(options)),
        Part::Drive(options) => on_one(drive::run(options)),
        Part::Herd(options) => on_one(herd::run(options)),
        Part::Turns(options) => on_one(turns::run(options)),
    }
}

/// As a server is run.
fn on_all(serving: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serving)
}

/// As little as can be of what the others need.
fn on_one(running: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(running)
}

fn compare(arguments: &Whole) -> io::Result<()> {
    let binary = match &arguments.binary {
        Some(binary) => fs::canonicalize(binary)?,
        None => built()?,
    };
    let ground = Ground {
        binary,
        folder: Folder::new()?,
    };
    let peers = if arguments.no_peers {
        Vec::new()
    } else {
        installed(arguments.quick)
    };
    println!("{}", machine::described());
    let mut bounds = Bounds::new(arguments.strict);
    let of = |mode: &&Mode| arguments.only.is_empty() || arguments.only.contains(mode);
    let done = Mode::value_variants()
        .iter()
        .filter(of)
        .try_for_each(|mode| measure(*mode, arguments, (&ground, &peers), &mut bounds));
    println!("\n{}", machine::described());
    bounds.print();
    done.and_then(|()| bounds.kept())
}

fn measure(
    mode: Mode,
    arguments: &Whole,
    (ground, peers): (&Ground, &[Peer]),
    bounds: &mut Bounds,
) -> io::Result<()> {
    let quick = arguments.quick;
    match mode {
        Mode::Start => start::run(ground, if quick { 7 } else { 31 }, bounds),
        Mode::Rate => {
            let plan = rate::Plan {
                seconds: if quick { 1.0 } else { 6.0 },
                rounds: arguments.rounds.unwrap_or(if quick { 3 } else { 5 }),
                peers,
            };
            rate::run(ground, &plan, bounds)
        }
        Mode::Paces => {
            let plan = paces::Plan {
                learners: if quick { 3 } else { 20 },
                starts: if quick { 20 } else { 300 },
                svg: &drawing(arguments),
            };
            paces::run(&plan, bounds)
        }
        Mode::Lag => delayed(ground, quick, peers, bounds),
        Mode::Hold => held(ground, quick, peers, bounds),
        Mode::Storms => {
            let plan = storms::Plan {
                callers: if quick { 500 } else { 5000 },
                deltas: if quick { 100 } else { 1000 },
                stall: if quick { 5 } else { 30 },
            };
            storms::run(ground, &plan, bounds)
        }
        Mode::Store => {
            let few = [(1000, By::Turns), (20_000, By::Turns)];
            let most = if quick { 250_000 } else { 1_000_000 };
            let most = (arguments.conversations.unwrap_or(most), By::Fill);
            let few = if quick { &few[..1] } else { &few };
            store::run(ground, &[few, &[most]].concat(), bounds)
        }
    }
}

fn drawing(arguments: &Whole) -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let usual = if arguments.quick {
        "target/lag.svg"
    } else {
        "benches/lag.svg"
    };
    let named = arguments.svg.clone();
    named.unwrap_or_else(|| tree.join(usual))
}

fn delayed(ground: &Ground, quick: bool, peers: &[Peer], bounds: &mut Bounds) -> io::Result<()> {
    let mut others = vec![
        Contender::Proxy(Store::Disk, Pace::Learned),
        Contender::Floor,
    ];
    // LiteLLM's proxy cannot hold a tenth of them.
    let peers = peers.iter().filter(|peer| **peer != Peer::LiteLlm);
    others.extend(peers.map(|peer| Contender::Peer(*peer)));
    let plan = if quick {
        lag::Plan {
            callers: 500,
            seconds: 4.0,
            over: 2.0,
            runs: "lognormal:4:0.4",
            others: &[],
        }
    } else {
        lag::Plan {
            callers: 10_000,
            seconds: 60.0,
            over: 8.0,
            runs: "lognormal:8:0.6",
            others: &others,
        }
    };
    lag::run(ground, &plan, bounds)
}

fn held(ground: &Ground, quick: bool, peers: &[Peer], bounds: &mut Bounds) -> io::Result<()> {
    let all = [1000, 5000, 10_000, most_callers()];
    let plan = hold::Plan {
        callers: if quick { &all[..1] } else { &all },
        seconds: if quick { 15 } else { 45 },
        later: Duration::from_secs(if quick { 3 } else { 30 }),
        peers,
    };
    hold::run(ground, &plan, bounds)
}

/// The release build of the tree that this program is of, together with this program, so that both are
/// made of the same parts.
fn built() -> io::Result<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packages = ["--package", "chaturdata-proxy", "--package", "compare"];
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked"])
        .args(packages)
        .current_dir(&tree);
    if !cargo.status()?.success() {
        return Err(io::Error::other("the proxy cannot be built"));
    }
    let own = std::env::current_exe()?;
    fs::canonicalize(own.with_file_name("chaturdata-proxy"))
}

fn installed(is_quick: bool) -> Vec<Peer> {
    let wanted = Peer::ALL
        .into_iter()
        .filter(|peer| !is_quick || peer.is_installed());
    let mut installed = Vec::new();
    for peer in wanted {
        match peer.install() {
            Ok(()) => installed.push(peer),
            Err(error) => println!("SKIPPED: {}: it cannot be installed: {error}", peer.name()),
        }
    }
    installed
}

/// As many as descriptors allow, with some left for everything else.
fn most_callers() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let hard = line
        .and_then(|line| line.split_whitespace().nth(4))
        .and_then(|hard| hard.parse().ok());
    hard.unwrap_or(4096).min(51_000_usize).saturating_sub(1000)
}
