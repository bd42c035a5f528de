//! Runs the targets on their corpus and on what is made of it, and shows an input that fails again.

mod parent;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Gives hostile bytes to everything that parses bytes from outside")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs targets, all unless some are named.
    Run {
        targets: Vec<String>,
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Gives one target the bytes of files.
    Replay {
        target: String,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// What `run` starts for each target.
    #[command(hide = true)]
    Try {
        target: String,
        /// Told of each input's number before it is given.
        #[arg(long)]
        numbers: PathBuf,
        #[command(flatten)]
        bounds: Bounds,
    },
}

/// How much each target is given, and what it may take.
#[derive(Args, Clone, Debug)]
pub struct Bounds {
    #[arg(long, default_value_t = 200_000)]
    pub inputs: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// CPU time for one input, in milliseconds.
    #[arg(long, default_value_t = 100)]
    pub longest: u64,
    /// The memory of one target's process, in MiB.
    #[arg(long, default_value_t = 256)]
    pub memory: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run {
            targets,
            jobs,
            bounds,
        } => parent::run(&targets, jobs, &bounds),
        Command::Replay { target, files } => trial::replay(&target, &files),
        Command::Try {
            target,
            numbers,
            bounds,
        } => trial::run(&target, &numbers, &bounds),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            parent::say(&fault);
            ExitCode::FAILURE
        }
    }
}
