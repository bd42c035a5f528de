//! The command line: what can be asked of the program, and what it says of itself.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Flag;

const EXAMPLES: &str = "\
Try it without a key, on simulated answers:
  chaturdata-proxy --sandbox
  curl http://127.0.0.1:8484/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"model\": \"chaturdata\", \"messages\": [{\"role\": \"user\", \"content\": \"Revenue by region?\"}]}'

With a key of Chat Ur Data, which every caller brings as its OpenAI API key:
  chaturdata-proxy
  OPENAI_BASE_URL=http://127.0.0.1:8484/v1 OPENAI_API_KEY=<your key> python ask.py

With a key that the proxy holds, and keys of its own for callers:
  chaturdata-proxy keys add alice
  CHATURDATA_API_KEY=<your key> chaturdata-proxy

When it does not start because of its state file, look at that, and begin anew if need be:
  chaturdata-proxy state check
  chaturdata-proxy state reset

Every setting, its default and its variable: chaturdata-proxy config print";

/// A local server that makes Chat Ur Data look like the OpenAI API: point any OpenAI SDK's base URL at it,
/// and ask questions of your own data
#[derive(Clone, Debug, Parser)]
#[command(name = "chaturdata-proxy", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags that outweigh variables and the file. None has a default here: the defaults are a file.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// Address and port to listen on [default: 127.0.0.1:8484]
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where Chat Ur Data is [default: https://www.chaturdata.com]
    #[arg(long, global = true, value_name = "URL")]
    pub upstream_url: Option<String>,
    /// The folder for caller keys, conversations and what else outlives the program
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state_dir: Option<String>,
    /// A settings file; `config print` shows what one may hold
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Answer from a simulated upstream: no key, no network
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// What to log: off, error, warn, info, debug, trace, also per module [default: info]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Let callers in without a key although the proxy holds the upstream key; on loopback only
    #[arg(long, global = true)]
    pub allow_anyone: bool,
}

impl Settings {
    /// What was given, under the keys of the file.
    pub fn flags(&self) -> Vec<Flag> {
        let yes = |given: bool| given.then(|| "true".to_owned());
        [
            ("server.listen", "--listen", self.listen.clone()),
            ("upstream.url", "--upstream-url", self.upstream_url.clone()),
            ("state.dir", "--state-dir", self.state_dir.clone()),
            ("sandbox.enabled", "--sandbox", yes(self.sandbox)),
            ("log.filter", "--log", self.log.clone()),
            (
                "callers.allow_anyone",
                "--allow-anyone",
                yes(self.allow_anyone),
            ),
        ]
        .into_iter()
        .filter_map(|(key, name, value)| {
            Some(Flag {
                key,
                name,
                value: value?,
            })
        })
        .collect()
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve callers (what happens without a command)
    Serve,
    /// Look at the settings
    #[command(subcommand, arg_required_else_help = false)]
    Config(ConfigCommand),
    /// Ask a proxy on this machine whether it lives; exit code 0 or 1
    Healthcheck,
    /// Serve the simulated upstream alone, for testing programs against it
    Sandbox {
        /// Address and port to listen on [default: 127.0.0.1:8485]
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<String>,
        /// A file that scripts the answers, delays and faults
        #[arg(long, value_name = "FILE")]
        script: Option<PathBuf>,
    },
    /// The keys that callers present to a proxy that holds the upstream key
    #[command(subcommand, arg_required_else_help = false)]
    Keys(KeysCommand),
    /// Look after what outlives the program, while no proxy runs on it
    #[command(subcommand, arg_required_else_help = false)]
    State(StateCommand),
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the settings are good, and what the proxy would do with them
    Check,
    /// Print all settings in force and where each comes from
    Print,
}

#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, once
    Add { name: String },
    /// Print the names of the keys
    List,
    /// Forget a key
    Remove { name: String },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum StateCommand {
    /// Say what can be read of it; exit code 0 where all is well, 1 where it is damaged. Changes nothing
    Check,
    /// Make its file as small as its records are
    Compact,
    /// Forget it: conversations, and runs under way
    Reset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Why the command line asks for nothing that can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It asks for help or the version: this text.
    Told(String),
    /// It cannot be understood: why, in one line.
    Wrong(String),
}

pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Stop> {
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Told(error.to_string()),
        _ => Stop::Wrong(one_line(&error)),
    })
}

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "chaturdata-proxy", &mut script);
    script
}

/// What clap says over several lines, without the usage that it repeats.
fn one_line(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(commands)) = error.get(ContextKind::ValidSubcommand)
        && error.kind() == ErrorKind::MissingSubcommand
    {
        let known: Vec<&str> = commands
            .iter()
            .map(String::as_str)
            .filter(|name| *name != "help")
            .collect();
        return format!("a command is missing: {}", known.join(", "));
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .unwrap_or(text.len());
    let said: Vec<String> = text
        .get(..end)
        .unwrap_or(text)
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    format!("{} (--help tells what there is)", said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, Stop> {
        let words = std::iter::once("chaturdata-proxy").chain(line.split_whitespace());
        parse(words.map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_after_the_command() {
        for line in [
            "--listen 127.0.0.1:1 config print",
            "config print --listen 127.0.0.1:1",
        ] {
            let cli = parsed(line).unwrap();

            assert_eq!(
                cli.settings.listen.as_deref(),
                Some("127.0.0.1:1"),
                "{line}"
            );
            assert!(matches!(
                cli.command,
                Some(Command::Config(ConfigCommand::Print))
            ));
        }
    }

    #[test]
    fn the_sandbox_has_its_own_address() {
        let cli = parsed("sandbox --listen 127.0.0.1:9").unwrap();

        let Some(Command::Sandbox { listen, .. }) = cli.command else {
            panic!("another command");
        };
        assert_eq!(listen.as_deref(), Some("127.0.0.1:9"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (line, expected) in [
            (
                "--listn x",
                "unexpected argument '--listn' found; tip: a similar argument exists: '--listen' \
                 (--help tells what there is)",
            ),
            ("keys", "a command is missing: add, list, remove"),
            (
                "keys add",
                "the following required arguments were not provided: <NAME> (--help tells what there is)",
            ),
            (
                "srve",
                "unrecognized subcommand 'srve'; tip: a similar subcommand exists: 'serve' \
                 (--help tells what there is)",
            ),
            (
                "--listen",
                "a value is required for '--listen <ADDRESS:PORT>' but none was supplied \
                 (--help tells what there is)",
            ),
        ] {
            assert_eq!(
                parsed(line).unwrap_err(),
                Stop::Wrong(expected.to_owned()),
                "{line}"
            );
        }
    }
}
