//! One target, one input after another, in a process of its own: it may not come back.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use fuzz::mutation::Mutator;
use fuzz::{Target, corpus};
use tokio::time::Instant;

use super::Bounds;
use super::parent::say;

/// An input that takes longer has no end.
const ENDLESS: Duration = Duration::from_secs(60);

/// Gives the target its inputs. Ends with the numbers that the bounds are held against.
pub fn run(name: &str, numbers: &Path, bounds: &Bounds) -> Result<(), String> {
    let target = fuzz::target(name).ok_or_else(|| format!("there is no target {name}"))?;
    let given = corpus::read(name).map_err(|error| format!("no corpus for {name}: {error}"))?;
    let mut numbers = File::create(numbers).map_err(|error| error.to_string())?;
    let mutator = Mutator::new(given, bounds.seed);
    let panicked = note_panics();
    let current = watch();
    let mut slowest = Duration::ZERO;
    for number in 0..bounds.inputs {
        current.store(number, Ordering::Relaxed);
        let noted = numbers
            .rewind()
            .and_then(|()| numbers.write_all(&number.to_le_bytes()));
        noted.map_err(|error| error.to_string())?;
        let input = mutator.input(number);
        let took = measured(target, &input, Duration::from_millis(bounds.longest));
        if panicked.load(Ordering::Relaxed) {
            return Err("it panicked".to_owned());
        }
        slowest = slowest.max(took);
        if took > Duration::from_millis(bounds.longest) {
            return Err(format!("it took {took:.1?} of CPU time"));
        }
    }
    let memory = peak_memory();
    say(&format!(
        "{} inputs, the slowest in {:.1} ms, {memory} MiB",
        bounds.inputs,
        slowest.as_secs_f64() * 1000.0
    ));
    if memory > bounds.memory {
        return Err(format!("it took {memory} MiB of memory"));
    }
    Ok(())
}

/// Gives the target the bytes of these files.
pub fn replay(name: &str, files: &[PathBuf]) -> Result<(), String> {
    let target = fuzz::target(name).ok_or_else(|| format!("there is no target {name}"))?;
    let panicked = note_panics();
    for file in files {
        let input = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let took = measured(target, &input, Duration::ZERO);
        if panicked.load(Ordering::Relaxed) {
            return Err(format!("{}: it panicked", file.display()));
        }
        say(&format!("{}: {took:.1?}", file.display()));
    }
    Ok(())
}

/// What the input took. Other programs may have taken the time: what looks too long is tried
/// again, with this thread's own time as the measure.
fn measured(target: &Target, input: &[u8], longest: Duration) -> Duration {
    let attempt = || {
        // The hook has noted it.
        let _ = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    };
    let began = Instant::now();
    attempt();
    let took = began.elapsed();
    if took <= longest {
        return took;
    }
    let Some(before) = cpu_time() else {
        return took;
    };
    attempt();
    cpu_time().map_or(took, |after| after.saturating_sub(before))
}

/// Set by any panic, also by one that a task or a layer catches.
fn note_panics() -> Arc<AtomicBool> {
    let panicked = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&panicked);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        noted.store(true, Ordering::Relaxed);
        hook(panic);
    }));
    panicked
}

/// Ends the process where an input has no end. What is stored is the input's number.
fn watch() -> Arc<AtomicU64> {
    let current = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&current);
    let (stop, ticks) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut last = u64::MAX;
        // The other end is never used: this is a clock.
        while let Err(RecvTimeoutError::Timeout) = ticks.recv_timeout(ENDLESS) {
            let number = watched.load(Ordering::Relaxed);
            if number == last {
                say("it does not end");
                std::process::abort();
            }
            last = number;
        }
    });
    std::mem::forget(stop);
    current
}

/// This thread's own time.
fn cpu_time() -> Option<Duration> {
    let line = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = line.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The most memory that this process has held, in MiB; 0 where nobody tells.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default().div_ceil(1024)
}
