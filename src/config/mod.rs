//! Settings, read once: flags over environment over file over the defaults of `config.example.toml`.

mod check;
mod environment;
mod layers;
mod settings;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use check::targets;
pub use environment::Environment;
pub use settings::{Flag, Keys, Settings, Sources};
pub use values::Rate;

/// Every setting of the program, as one value. Each field is a key of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub upstream: Upstream,
    pub callers: Callers,
    pub models: Models,
    pub parameters: Parameters,
    pub conversations: Conversations,
    pub run: Run,
    pub structured: Structured,
    pub tools: Tools,
    pub pace: Pace,
    pub stream: Stream,
    pub sandbox: Sandbox,
    pub state: State,
    pub store: Store,
    pub log: Log,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// Beside `localhost`, `127.0.0.1` and `[::1]`.
    pub allowed_hosts: Vec<String>,
    /// Exact, as browsers send them: `https://chat.example`.
    pub allowed_origins: Vec<String>,
    pub max_connections: usize,
    /// Callers that wait for an answer.
    pub max_waiting: usize,
    pub max_waiting_per_key: usize,
    #[serde(deserialize_with = "values::size")]
    pub max_body: u64,
    pub max_headers: usize,
    #[serde(deserialize_with = "values::size")]
    pub max_head: u64,
    #[serde(deserialize_with = "values::duration")]
    pub head_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub idle_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub body_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub write_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub drain_timeout: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    pub url: String,
    #[serde(deserialize_with = "values::optional_path")]
    pub api_key_file: Option<PathBuf>,
    /// `None`, or the URL of an HTTP proxy.
    #[serde(deserialize_with = "values::optional_text")]
    pub proxy: Option<String>,
    #[serde(deserialize_with = "values::duration")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub post_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub read_timeout: Duration,
    /// How long a call may wait for a connection.
    #[serde(deserialize_with = "values::duration")]
    pub queue_timeout: Duration,
    #[serde(deserialize_with = "values::size")]
    pub max_body: u64,
    pub max_connections: usize,
}

impl Upstream {
    /// How many of the connections new messages may use at most, and reads as many, so that neither
    /// is kept from going on by the other: three of eight are kept for each. One alone is used by both.
    pub fn most_of_each(&self) -> usize {
        let kept = (self.max_connections * 3 / 8).max(1);
        (self.max_connections - kept).max(1)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Callers {
    #[serde(deserialize_with = "values::optional_path")]
    pub key_file: Option<PathBuf>,
    pub allow_anyone: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// The names that `/v1/models` lists.
    pub aliases: Vec<String>,
    pub strict: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    pub strict: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversations {
    pub narrow_headers: Vec<String>,
    pub user_headers: Vec<String>,
    pub side_call_headers: Vec<String>,
    pub side_calls: SideCalls,
    /// In bytes of text.
    #[serde(deserialize_with = "values::size")]
    pub transcript: u64,
    pub max: usize,
    #[serde(deserialize_with = "values::duration")]
    pub max_age: Duration,
}

/// What becomes of a chat program's own calls for titles, tags and follow-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SideCalls {
    /// Answered here, in the shape asked for; nothing is posted.
    Local,
    /// Posted on a thread of their own.
    Scratch,
    /// Not looked for.
    Off,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    #[serde(deserialize_with = "values::duration")]
    pub deadline: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub limit: Duration,
    /// Requests that may wait for one conversation.
    pub queue: u32,
    /// Runs under way, whether anybody waits for them or not.
    pub max_active: usize,
    pub max_active_per_key: usize,
    pub on_unknown: OnUnknown,
    #[serde(deserialize_with = "values::duration")]
    pub keep_answers: Duration,
    pub max_answers: usize,
}

/// What to do where it is not known whether a known thread took a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Post transcript and prompt once on a new thread.
    Replay,
    /// Tell the caller.
    Tell,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Structured {
    /// How often an answer is sent back to be mended.
    pub repairs: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    pub auto: AutoTools,
}

/// What becomes of tools that need not be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoTools {
    #[default]
    Emulate,
    Ignore,
    Refuse,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    pub strategy: Strategy,
    #[serde(deserialize_with = "values::duration")]
    pub interval: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub min_gap: Duration,
    /// Of one upstream key.
    #[serde(deserialize_with = "values::optional_rate")]
    pub max_polls_per_second: Option<Rate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Where the ends of the runs seen so far say that one is likely.
    Learned,
    Fixed,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub keep_alive: KeepAlive,
    #[serde(deserialize_with = "values::duration")]
    pub keep_alive_every: Duration,
    /// The head is sent at the latest this long after the request.
    #[serde(deserialize_with = "values::duration")]
    pub begin_within: Duration,
}

/// What keeps a stream alive until its text comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepAlive {
    Chunk,
    Comment,
    Off,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    pub enabled: bool,
    #[serde(deserialize_with = "values::optional_path")]
    pub script: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// `None` only where nobody named a place and the platform has none.
    #[serde(deserialize_with = "values::optional_path")]
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub kind: StoreKind,
    /// No message is posted while it cannot be written down that it is about to be.
    pub strict: bool,
}

/// What becomes of records when the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// They are in a file of the state folder.
    Disk,
    /// They are gone.
    Memory,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// What is wrong with the settings: one line that names the key, its source and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl Default for Config {
    fn default() -> Self {
        layers::Layers::defaults()
            .config()
            .expect("config.example.toml holds a good value for every key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_is_the_defaults() {
        let config = Config::default();

        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8484");
        assert_eq!(config.server.max_head, 32 * 1024);
        assert_eq!(config.upstream.url, "https://www.chaturdata.com");
        assert_eq!(config.upstream.api_key_file, None);
        assert_eq!(config.run.deadline, Duration::from_secs(590));
        assert_eq!(config.state.dir, None);
    }
}
