//! Does what the command line asks for; the one place that picks implementations.

mod access;
mod caches;
mod descriptors;
mod healthcheck;
pub mod log;
mod parts;
mod serve;
mod state;
mod upkeep;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};

use crate::cli::{self, Cli, Command, ConfigCommand, KeysCommand, Stop};
use crate::config::{self, Environment, Keys, Settings, Sources};
use crate::store::callers::{CallerKeys, CallersFile, ENVIRONMENT};
use access::{Refusal, Situation};

/// Settings or the command line are at fault; starting again will not help.
const MISUSED: u8 = 2;

/// The whole program.
pub fn run() -> ExitCode {
    let done = match cli::parse(std::env::args_os()) {
        Ok(cli) => carry_out(&cli),
        Err(Stop::Told(text)) => print(text.as_bytes()),
        Err(Stop::Wrong(why)) => {
            say(&why);
            return ExitCode::from(MISUSED);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            if error.is::<config::Error>() || error.is::<Refusal>() {
                ExitCode::from(MISUSED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn carry_out(cli: &Cli) -> Result<()> {
    let environment = Environment::of_process();
    let settings = || {
        Settings::read(&Sources {
            flags: &cli.settings.flags(),
            file: cli.settings.config.as_deref(),
            environment: &environment,
        })
    };
    match cli.command.as_ref().unwrap_or(&Command::Serve) {
        Command::Serve => serve::serve(Start::read(settings()?, &environment)?),
        Command::Config(ConfigCommand::Check) => check(&Start::read(settings()?, &environment)?),
        Command::Config(ConfigCommand::Print) => {
            let settings = settings()?;
            let keys = settings.key_sources(&environment)?;
            print(format!("{keys}\n{}", settings.effective()).as_bytes())
        }
        // Docker knows 0 and 1 alone.
        Command::Healthcheck => match settings() {
            Ok(settings) => healthcheck::healthcheck(settings.config.server.listen),
            Err(error) => Err(anyhow!("{error}")),
        },
        Command::Sandbox { listen, script } => {
            let settings = settings()?;
            // The flag is the proxy's own, so it has been read; its default is another.
            let listen = listen.as_ref().map(|_| settings.config.server.listen);
            serve::sandbox(listen, script.as_deref(), &settings)
        }
        Command::State(command) => {
            let settings = settings()?;
            upkeep::state(*command, state::dir(&settings.config)?)
        }
        Command::Keys(command) => keys(command, &callers_file(&settings()?)?),
        Command::Completions { shell } => print(&cli::completions(*shell)),
    }
}

/// Everything that a start of the proxy rests on.
struct Start {
    settings: Settings,
    keys: Keys,
    callers: CallerKeys,
    situation: Situation,
    warnings: Vec<String>,
}

impl Start {
    fn read(settings: Settings, environment: &Environment) -> Result<Self> {
        let sandbox = settings.config.sandbox.enabled;
        // The sandbox uses no key, so a file that is not there need not stop it.
        let keys = match settings.keys(environment) {
            Err(_) if sandbox => Keys::default(),
            keys => keys?,
        };
        let mut warnings = settings.warnings.clone();
        warnings.extend_from_slice(&keys.warnings);
        let given = keys
            .caller
            .iter()
            .map(|key| (ENVIRONMENT.to_owned(), key.clone()));
        let mut callers = CallerKeys::of(given);
        if !sandbox
            && keys.upstream.is_some()
            && let Ok(file) = callers_file(&settings)
        {
            callers = callers.joined(&file.keys()?);
            if file.is_readable_by_others() {
                let path = file.path().display();
                warnings.push(format!("others on this machine can read {path}"));
            }
        }
        let situation = Situation {
            listen: settings.config.server.listen,
            sandbox,
            key_held: keys.upstream.is_some(),
            anyone: settings.config.callers.allow_anyone,
            caller_keys: !callers.is_empty(),
            terminal: io::stderr().is_terminal(),
        };
        warnings.extend(access::doubts(&situation).into_iter().map(str::to_owned));
        Ok(Self {
            settings,
            keys,
            callers,
            situation,
            warnings,
        })
    }
}

fn check(start: &Start) -> Result<()> {
    for warning in &start.warnings {
        say(warning);
    }
    let access = access::access(&start.situation)?;
    parts::upstream(&start.settings.config)?;
    let text = format!(
        "the settings are good\nlisten: {}\naccess: {}\n",
        start.situation.listen,
        access.as_str()
    );
    print(text.as_bytes())
}

fn callers_file(settings: &Settings) -> Result<CallersFile> {
    let dir: Option<&Path> = settings.config.state.dir.as_deref();
    let nowhere =
        "state.dir: this platform names no folder for caller keys; name one with --state-dir";
    Ok(dir
        .map(CallersFile::in_dir)
        .ok_or_else(|| config::Error(nowhere.to_owned()))?)
}

fn keys(command: &KeysCommand, file: &CallersFile) -> Result<()> {
    match command {
        KeysCommand::Add { name } => {
            let key = file.add(name)?;
            say(&format!(
                "this is the key of {name}; it is shown this once. A proxy that is running knows it once it is started again"
            ));
            print(format!("{}\n", key.expose()).as_bytes())
        }
        KeysCommand::List => {
            let mut text = String::new();
            for entry in file.entries()? {
                let created = UNIX_EPOCH + Duration::from_secs(entry.created.min(u32::MAX.into()));
                let created = humantime::format_rfc3339_seconds(created);
                text.push_str(&format!("{}\t{created}\n", entry.name.escape_debug()));
            }
            print(text.as_bytes())
        }
        KeysCommand::Remove { name } => {
            file.remove(name)?;
            say(&format!(
                "the key of {name} is forgotten; a proxy that is running takes it until it is started again"
            ));
            Ok(())
        }
    }
}

/// To stdout. A reader that has seen enough is no failure.
fn print(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("stdout cannot be written")
        }
        _ => Ok(()),
    }
}

/// One line to stderr, which may be closed.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "chaturdata-proxy: {line}");
}
