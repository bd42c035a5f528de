//! Loads a proxy in front of a sandbox, each in its own process, and judges what it sees:
//! `load BINARY overload|memory|soak [--full]`.

mod caller;
mod memory;
mod overload;
mod program;
mod soak;
mod tally;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use tally::Verdict;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_full = arguments.iter().any(|argument| argument == "--full");
    let [binary, what, ..] = arguments.as_slice() else {
        eprintln!("usage: load BINARY overload|memory|soak [--full]");
        return ExitCode::from(2);
    };
    let mut verdict = Verdict::new(is_full);
    match run(Path::new(binary), what, is_full, &mut verdict) {
        Ok(()) if verdict.is_good() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{what}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(binary: &Path, what: &str, is_full: bool, verdict: &mut Verdict) -> io::Result<()> {
    // One thread: the cores are shared with what is measured.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    match what {
        "overload" => runtime.block_on(overload::run(binary, is_full, verdict)),
        "memory" => runtime.block_on(memory::run(binary, verdict)),
        "soak" => runtime.block_on(soak::run(binary, is_full, verdict)),
        _ => Err(io::Error::other("no such check")),
    }
}
