//! Starts a process for each target, and tells how to see a failure again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use fuzz::mutation::Mutator;
use fuzz::{TARGETS, Target, corpus};

use super::Bounds;

/// Of an input that is shown.
const SHOWN: usize = 1000;

/// Runs the targets, some at once.
pub fn run(names: &[String], jobs: usize, bounds: &Bounds) -> Result<(), String> {
    let mut targets = Vec::new();
    for name in names {
        targets.push(*fuzz::target(name).ok_or_else(|| format!("there is no target {name}"))?);
    }
    if targets.is_empty() {
        targets = TARGETS.to_vec();
    }
    let count = targets.len();
    let left = Mutex::new(targets);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let failed: usize = std::thread::scope(|scope| {
        let work = || {
            let mut failed = 0;
            while let Some(target) = next() {
                match tried(&target, bounds) {
                    Ok(report) => say(&format!("{:<12} {report}", target.name)),
                    Err(report) => {
                        failed += 1;
                        say(&format!("{:<12} FAILED\n{report}", target.name));
                    }
                }
            }
            failed
        };
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().unwrap_or(1));
        ended.sum()
    });
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} of {count} targets failed")),
    }
}

/// One line; what cannot be written is nobody's loss.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn tried(target: &Target, bounds: &Bounds) -> Result<String, String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let numbers = folder.join(format!("{}.number", target.name));
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command
        .args(["try", target.name])
        .arg("--numbers")
        .arg(&numbers);
    for (name, value) in [
        ("--inputs", bounds.inputs),
        ("--seed", bounds.seed),
        ("--longest", bounds.longest),
        ("--memory", bounds.memory),
    ] {
        command.args([name, &value.to_string()]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let number = last_number(&numbers).unwrap_or_default();
    let said = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr).trim());
    let file = folder.join(format!("{}-{number}", target.name));
    let ended = format!("{said}\nended with {}, at input {number}", output.status);
    Err(format!("{ended}\n{}", shown(target, number, bounds, &file)))
}

fn last_number(numbers: &Path) -> Option<u64> {
    let bytes = fs::read(numbers).ok()?;
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

/// The input, and how to give it again.
fn shown(target: &Target, number: u64, bounds: &Bounds, file: &Path) -> String {
    let given = corpus::read(target.name).unwrap_or_default();
    let input = Mutator::new(given, bounds.seed).input(number);
    let text = input.get(..SHOWN.min(input.len())).unwrap_or_default();
    let kept = match fs::write(file, &input) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("(not kept: {error})"),
    };
    format!(
        "{} bytes: \"{}\"\nreplay: cargo run --profile sim -p fuzz -- replay {} {kept}",
        input.len(),
        text.escape_ascii(),
        target.name
    )
}
