//! The whole core over a scripted upstream and disk, on a paused clock: seeds decide who says what,
//! what goes wrong, and when the proxy is killed. `--help` tells how to run it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_types,
    reason = "it is a test and a program"
)]

mod caller;
mod check;
mod dice;
mod forms;
mod journal;
mod messages;
mod net;
mod responses;
mod weather;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const HELP: &str = "\
The proxy's core over a simulated upstream and disk, with faults, crashes and restarts.

  --seeds N    seeds 0 to N-1 (2000)
  --from N     begin at this seed
  --seed N     this seed alone, with everything that happens
  --replays N  run so many of them twice, and compare what happened (100)
  --bugs       plant bugs one after another; each must be caught within 2000 seeds
               (with the feature `planted`)
  --bug NAME   this bug alone
";

struct Options {
    from: u64,
    seeds: u64,
    replays: u64,
    bugs: bool,
    /// Of all bugs, this alone.
    bug: Option<String>,
    traced: bool,
}

fn main() -> ExitCode {
    let mut options = Options {
        from: 0,
        seeds: 2_000,
        replays: 100,
        bugs: false,
        bug: None,
        traced: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let known = match word.as_str() {
            "--seeds" => number().map(|seeds| options.seeds = seeds),
            "--from" => number().map(|from| options.from = from),
            "--replays" => number().map(|replays| options.replays = replays),
            "--seed" => number().map(|seed| {
                (options.from, options.seeds, options.replays) = (seed, 1, 1);
                options.traced = true;
            }),
            "--bugs" => {
                options.bugs = true;
                Some(())
            }
            "--bug" => words.next().map(|bug| {
                options.bugs = true;
                options.bug = Some(bug);
            }),
            "--help" => {
                println!("{HELP}");
                return ExitCode::SUCCESS;
            }
            // Words for the other test programs: `cargo test NAME`, `cargo test -- --nocapture`.
            _ => return skipped(),
        };
        if known.is_none() {
            eprintln!("{word} wants a value");
            return ExitCode::from(2);
        }
    }
    if options.bugs {
        bugs(options.bug.as_deref())
    } else {
        seeds(&options)
    }
}

fn skipped() -> ExitCode {
    println!("0 passed, 0 failed, 1 skipped");
    ExitCode::SUCCESS
}

/// Every seed, on every core.
fn seeds(options: &Options) -> ExitCode {
    let began = std::time::Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let failures = Mutex::new(Vec::new());
    let (answers, deaths) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failures.lock().unwrap().len() >= 5 {
                        return;
                    }
                    world::TRACED.set(options.traced);
                    let outcome = world::run(seed);
                    world::TRACED.set(false);
                    answers.fetch_add(outcome.answers, Ordering::Relaxed);
                    deaths.fetch_add(outcome.deaths, Ordering::Relaxed);
                    let mut wrong = outcome.wrong;
                    if seed - options.from < options.replays
                        && world::run(seed).trace != outcome.trace
                    {
                        wrong.get_or_insert("it is not the same when it is run again".to_owned());
                    }
                    if let Some(wrong) = wrong {
                        println!(
                            "seed {seed}: {wrong}\n  again: cargo test --test sim -- --seed {seed}"
                        );
                        failures.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failures.into_inner().unwrap().len();
    println!(
        "{} seeds in {:.1} s: {} answers, {} restarts",
        options.seeds,
        began.elapsed().as_secs_f64(),
        answers.into_inner(),
        deaths.into_inner(),
    );
    println!(
        "{} passed, {failed} failed",
        options.seeds as usize - failed
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Each of the planted bugs, until it is caught.
#[cfg(feature = "planted")]
fn bugs(only: Option<&str>) -> ExitCode {
    use chaturdata_proxy::planted::{Bug, plant};
    let is_wanted = |bug: &Bug| only.is_none_or(|only| format!("{bug:?}") == only);
    let wanted: Vec<Bug> = Bug::ALL.into_iter().filter(is_wanted).collect();
    let next = AtomicUsize::new(0);
    let missed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                while let Some(bug) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    plant(Some(*bug));
                    let caught = (0..PLANTED_SEEDS).find_map(|seed| {
                        let wrong = world::run(seed).wrong?;
                        Some((seed, wrong.lines().next().unwrap_or_default().to_owned()))
                    });
                    plant(None);
                    match caught {
                        Some((seed, wrong)) => {
                            println!("{bug:?}: caught at seed {seed}: {wrong:.100}")
                        }
                        None => {
                            missed.fetch_add(1, Ordering::Relaxed);
                            println!("{bug:?}: MISSED in {PLANTED_SEEDS} seeds");
                        }
                    }
                }
            });
        }
    });
    let missed = missed.into_inner();
    println!("{} passed, {missed} failed", wanted.len() - missed);
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Within how many seeds a planted bug must be caught.
#[cfg(feature = "planted")]
const PLANTED_SEEDS: u64 = 2_000;

#[cfg(not(feature = "planted"))]
fn bugs(_: Option<&str>) -> ExitCode {
    eprintln!(
        "bugs are planted with the feature alone: cargo test --features planted --test sim -- --bugs"
    );
    ExitCode::from(2)
}
