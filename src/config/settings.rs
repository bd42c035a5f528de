//! Everything that the program is told at its start: the settings, the keys, and what to warn about.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Value;

use super::environment::{self, CALLER_KEY, Environment, FILE, Meaning, UPSTREAM_KEY};
use super::layers::{Layers, Origin};
use super::{Config, Error, check};
use crate::secret::{Secret, is_readable_by_others};

/// A setting given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Of the file, as `section.key`.
    pub key: &'static str,
    pub name: &'static str,
    pub value: String,
}

/// What settings are read from, beside the defaults.
#[derive(Debug)]
pub struct Sources<'a> {
    pub flags: &'a [Flag],
    /// From the command line; else the environment may name one.
    pub file: Option<&'a Path>,
    pub environment: &'a Environment,
}

/// The settings with their sources.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    /// What was found that means nothing, for the log.
    pub warnings: Vec<String>,
    layers: Layers,
}

/// The keys that the proxy was given, read from where the settings name them.
#[derive(Clone, Default)]
#[expect(missing_debug_implementations, reason = "it holds keys")]
pub struct Keys {
    /// The key that the proxy holds for all callers.
    pub upstream: Option<Secret>,
    /// A key that callers may present.
    pub caller: Option<Secret>,
    /// What is doubtful about them, for the log.
    pub warnings: Vec<String>,
}

impl Settings {
    pub fn read(sources: &Sources<'_>) -> Result<Self, Error> {
        let mut layers = Layers::defaults();
        let environment = sources.environment;
        let named = environment.text(FILE)?.map(Path::new);
        if let Some(path) = sources.file.or(named) {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                Error(format!("the settings file {path} cannot be read: {error}"))
            })?;
            layers.lay_file(path, &text)?;
        }
        let warnings = lay_environment(&mut layers, environment)?;
        for flag in sources.flags {
            layers.lay_text(flag.key, &flag.value, Origin::Flag(flag.name))?;
        }
        let mut config = layers.config()?;
        check::check(&config).map_err(|fault| layers.error(fault.key, &fault.what))?;
        // Paths of the API are put behind it.
        config
            .upstream
            .url
            .truncate(config.upstream.url.trim_end_matches('/').len());
        if config.state.dir.is_none()
            && let Some(dir) = platform_state(environment)?
        {
            layers.lay_text("state.dir", &dir.to_string_lossy(), Origin::Platform)?;
            config.state.dir = Some(dir);
        }
        Ok(Self {
            config,
            warnings,
            layers,
        })
    }

    /// Reads the keys; their text is never in an error, and neither is a path, which may be a key that
    /// was given where a file was meant.
    pub fn keys(&self, environment: &Environment) -> Result<Keys, Error> {
        let mut keys = Keys::default();
        let upstream = (
            UPSTREAM_KEY,
            "upstream.api_key_file",
            &self.config.upstream.api_key_file,
        );
        let caller = (
            CALLER_KEY,
            "callers.key_file",
            &self.config.callers.key_file,
        );
        keys.upstream = self.key(environment, upstream, &mut keys.warnings)?;
        keys.caller = self.key(environment, caller, &mut keys.warnings)?;
        // Wrong keys are slowed down, not stopped: length is what protects.
        if keys
            .caller
            .as_ref()
            .is_some_and(|key| key.expose().len() < 16)
        {
            let doubt = "the given caller key is short enough to be guessed; `keys add NAME` makes long ones";
            keys.warnings.push(doubt.to_owned());
        }
        Ok(keys)
    }

    /// A key from its variable, else from its file. The variable outweighs a settings file that names one.
    fn key(
        &self,
        environment: &Environment,
        (variable, key, file): (&str, &str, &Option<PathBuf>),
        warnings: &mut Vec<String>,
    ) -> Result<Option<Secret>, Error> {
        if let Some(text) = environment.text(variable)? {
            if let Some(Origin::Variable(other)) = self.layers.origin(key) {
                return Err(Error(format!(
                    "{variable} and {other} are both set; keep one of them"
                )));
            }
            let secret = usable(text).map_err(|what| Error(format!("{variable}: {what}")))?;
            return Ok(Some(secret));
        }
        let Some(path) = file else {
            return Ok(None);
        };
        let text = read_bounded(path).map_err(|what| self.layers.error(key, &what))?;
        if is_readable_by_others(path) {
            warnings.push(format!(
                "{key}: others on this machine can read the file, which holds a key"
            ));
        }
        let secret =
            usable(&text).map_err(|what| self.layers.error(key, &format!("the file {what}")))?;
        Ok(Some(secret))
    }

    /// The settings in force, as a file that would set them, with the source of each.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in self.layers.settings() {
            let (of, key) = setting.key.split_once('.').unwrap_or(("", &setting.key));
            if of != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{of}]");
                section = of;
            }
            let value = &setting.value;
            let _ = writeln!(text, "{key} = {value} # {}", setting.origin);
        }
        text
    }

    /// Where the keys come from, without what they are.
    pub fn key_sources(&self, environment: &Environment) -> Result<String, Error> {
        let mut text = String::new();
        for (whose, variable, key) in [
            ("upstream key", UPSTREAM_KEY, "upstream.api_key_file"),
            ("caller key", CALLER_KEY, "callers.key_file"),
        ] {
            let is_named =
                self.layers.settings().iter().any(|setting| {
                    setting.key == key && setting.value != Value::String(String::new())
                });
            let source = match environment.text(variable)? {
                Some(_) => format!("from {variable}, not shown"),
                None if is_named => format!("from the file of {key}, not shown"),
                None => "none".to_owned(),
            };
            let _ = writeln!(text, "# {whose}: {source}");
        }
        Ok(text)
    }
}

/// Lays the variables over what is there, and returns what to warn about.
fn lay_environment(layers: &mut Layers, environment: &Environment) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for name in environment.names() {
        match environment::meaning(name) {
            Meaning::Other => {}
            Meaning::Key(key) => {
                if let Some(text) = environment.text(name)? {
                    layers.lay_text(&key, text, Origin::Variable(name.to_owned()))?;
                }
            }
            Meaning::Stray => warnings.push(format!(
                "{} is no setting of this program and is ignored; settings are named like {}",
                name.escape_debug(),
                environment::variable("pace.interval")
            )),
        }
    }
    Ok(warnings)
}

/// The platform's own place for what outlives a program.
fn platform_state(environment: &Environment) -> Result<Option<PathBuf>, Error> {
    let absolute = |name: &str| -> Result<Option<PathBuf>, Error> {
        let path = environment.text(name)?.map(PathBuf::from);
        Ok(path.filter(|path| path.is_absolute()))
    };
    let parent = if cfg!(windows) {
        absolute("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        absolute("HOME")?.map(|home| home.join("Library/Application Support"))
    } else {
        let home = absolute("HOME")?.map(|home| home.join(".local/state"));
        absolute("XDG_STATE_HOME")?.or(home)
    };
    Ok(parent.map(|parent| parent.join("chaturdata-proxy")))
}

/// Keys travel in a header.
fn usable(text: &str) -> Result<Secret, String> {
    const LONGEST: usize = 512;
    let text = text.trim();
    if text.is_empty() {
        Err("holds no key".to_owned())
    } else if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(format!(
            "does not hold a key of at most {LONGEST} visible ASCII characters without spaces"
        ))
    } else {
        Ok(Secret::new(text))
    }
}

/// A file that holds a key; longer ones were not meant.
fn read_bounded(path: &Path) -> Result<String, String> {
    const LONGEST: u64 = 4096;
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("the file cannot be read: {error}")),
    }
}
