//! What the sandbox does to whom: a behaviour for everyone, and rules for single messages.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::part::{Part, Spoilt};
use super::shape::Shape;
use crate::secret::Secret;

/// The sandbox's instructions. The default answers every question from the sample data.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Where ids begin.
    pub seed: u64,
    /// The only key that is right. Any key is, and none, where this is absent.
    pub key: Option<RightKey>,
    /// What becomes of messages that no rule is for.
    pub behaviour: Behaviour,
    pub rules: Vec<Rule>,
}

impl Script {
    /// Reads a script in TOML, or in JSON where the text begins with a brace.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.trim_start().starts_with('{') {
            Ok(serde_json::from_str(text)?)
        } else {
            Ok(toml::from_str(text)?)
        }
    }

    /// A script that does the same to every message.
    pub fn always(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            ..Self::default()
        }
    }
}

/// Why a text is no script.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a script in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not a script in TOML: {0}")]
    Toml(#[from] toml::de::Error),
}

/// A key that a script names.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct RightKey(pub Secret);

impl From<String> for RightKey {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

impl fmt::Debug for RightKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RightKey")
    }
}

/// A behaviour for messages that hold a text. The first rule that fits, and is not used up, counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Part of the message as it is posted; empty fits every message.
    pub when: String,
    /// How many messages the rule is good for; absent, all of them.
    pub times: Option<u32>,
    pub behaviour: Behaviour,
}

/// What becomes of one message, of its run, and of the reads until the next message.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// The assistant messages of the run; none: what the sample data says.
    pub reply: Vec<Content>,
    /// The reply is a hash of all messages that the thread has had: it tells what it rests on.
    pub recites: bool,
    /// The reply is in the form that the message asks for, where it asks for one.
    pub plays: Option<Part>,
    /// How the reply that it plays is spoilt.
    pub spoilt: Spoilt,
    /// From acceptance to the run's end; absent: at once, or a lifelike while for the sample data.
    #[serde(deserialize_with = "some_duration")]
    pub reply_after: Option<Duration>,
    /// In how many steps the reply grows before the run's end.
    #[serde(deserialize_with = "growth")]
    pub growth: u32,
    /// Texts shown from a time on, in place of the reply, even after the run's end.
    pub steps: Vec<Step>,
    /// The status of the unfinished run at its first read, its second, ..; the last one stays.
    pub running: Vec<String>,
    /// The status at the end: any word. The reply is shown under `completed` and `incomplete` only.
    pub ending: String,
    pub failure: Option<Failure>,
    pub post: Post,
    /// Reads that are answered otherwise; the first that fits counts.
    pub reads: Vec<Read>,
    #[serde(deserialize_with = "duration")]
    pub read_delay: Duration,
    /// The first so many reads tell `completed`, as of the run before.
    pub stale_reads: u32,
    /// The first so many reads do not show the message itself.
    pub message_lag: u32,
    /// The first so many reads after the run's end do not show its reply.
    pub reply_lag: u32,
    pub echo: Echo,
    pub foreign: Vec<Foreign>,
    pub shape: Shape,
}

impl Behaviour {
    /// A run that completes with one text.
    pub fn says(text: &str, reply_after: Duration) -> Self {
        Self {
            reply: vec![Content::Text(text.to_owned())],
            reply_after: Some(reply_after),
            ..Self::default()
        }
    }

    /// A run that ends with a status other than `completed`, and with words for it.
    pub fn ends(ending: &str, failure: Option<Failure>, reply_after: Duration) -> Self {
        Self {
            ending: ending.to_owned(),
            failure,
            ..Self::says("", reply_after)
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            reply: Vec::new(),
            recites: false,
            plays: None,
            spoilt: Spoilt::No,
            reply_after: None,
            growth: 0,
            steps: Vec::new(),
            running: vec!["in_progress".to_owned()],
            ending: "completed".to_owned(),
            failure: None,
            post: Post::default(),
            reads: Vec::new(),
            read_delay: Duration::ZERO,
            stale_reads: 0,
            message_lag: 0,
            reply_lag: 0,
            echo: Echo::Same,
            foreign: Vec::new(),
            shape: Shape::default(),
        }
    }
}

/// One message's content: a text, or parts in the upstream's own form.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    /// Of any shape, since the upstream's are not known.
    Parts(Vec<Value>),
}

/// What a run shows from a time on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Counted from the acceptance.
    #[serde(deserialize_with = "duration")]
    pub at: Duration,
    pub reply: Vec<Content>,
}

/// The words for an ending, and where they stand.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub words: String,
    #[serde(default)]
    pub place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// `run_status.last_error.message`.
    #[default]
    LastError,
    /// `run_status.last_error`, as text.
    LastErrorText,
    /// `error`, as text.
    Error,
    /// `error.message`.
    ErrorMessage,
    /// `message`.
    Message,
}

/// How a POST goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Post {
    /// From the request to the acceptance.
    #[serde(deserialize_with = "duration")]
    pub accept_after: Duration,
    /// From the acceptance to the answer.
    #[serde(deserialize_with = "duration")]
    pub answer_after: Duration,
    pub answer: Answer,
    /// Absent: at once where the answer is the proper one or a spoilt form of it, else never.
    pub lands: Option<Lands>,
    /// The status that the answer tells; absent: that of the run.
    pub status: Option<String>,
    /// The status of a refusal while a run is active on the thread; absent: accepted.
    pub while_active: Option<u16>,
}

/// When a message reaches its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lands {
    AtOnce,
    Never,
    #[serde(deserialize_with = "duration")]
    After(Duration),
}

/// What comes back for a call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    #[default]
    Proper,
    /// The proper answer under this content type.
    Typed(String),
    /// The proper answer without these fields.
    Without(Vec<String>),
    /// The proper answer with these fields in place of its own.
    With(Map<String, Value>),
    /// The proper answer, broken off after so many bytes.
    Cut(usize),
    /// The proper answer, and no end of white space after it.
    Endless,
    Canned(Canned),
    /// The connection closes without an answer.
    Reset,
    /// No answer ever comes.
    Hang,
    /// No connection is made. Over HTTP, where there is one already, as `reset`.
    Unreachable,
    /// The certificate is not believed. Over HTTP, as `reset`.
    Certificate,
}

impl Answer {
    /// An answer that is a status alone.
    pub fn status(status: u16) -> Self {
        Self::Canned(Canned {
            status,
            ..Canned::default()
        })
    }

    /// The page of a gateway.
    pub fn html(status: u16) -> Self {
        Self::Canned(Canned {
            status,
            content_type: "text/html".to_owned(),
            body: format!("<html><body><h1>{status}</h1></body></html>"),
            ..Canned::default()
        })
    }
}

/// An answer whatever the state.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Canned {
    pub status: u16,
    pub retry_after: Option<String>,
    pub location: Option<String>,
    pub content_type: String,
    pub body: String,
}

impl Default for Canned {
    fn default() -> Self {
        Self {
            status: 500,
            retry_after: None,
            location: None,
            content_type: "application/json".to_owned(),
            body: String::new(),
        }
    }
}

/// Reads that are answered otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The first read concerned, counted from 1 since the message landed.
    #[serde(default = "first")]
    pub from: u32,
    /// How many reads; absent: all that follow.
    #[serde(default)]
    pub count: Option<u32>,
    pub answer: Answer,
}

impl Read {
    /// The reads numbered `from` to `from + count - 1`, counted from 1.
    pub fn these(from: u32, count: u32, answer: Answer) -> Self {
        Self {
            from,
            count: Some(count),
            answer,
        }
    }

    pub fn concerns(&self, read: u32) -> bool {
        let since = read.checked_sub(self.from);
        since.is_some_and(|since| self.count.is_none_or(|count| since < count))
    }
}

/// How the message stands in the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Echo {
    #[default]
    Same,
    /// Without white space around it.
    Trimmed,
    /// With other line breaks and single spaces.
    Rewrapped,
}

/// A message that someone else writes on the thread.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    pub text: String,
    /// The answer to it, a moment later.
    #[serde(default)]
    pub reply: Option<String>,
    #[serde(default)]
    pub at: When,
}

/// When someone else writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Just before our message.
    Before,
    /// Just after it.
    #[default]
    AtOnce,
    #[serde(deserialize_with = "duration")]
    After(Duration),
}

fn first() -> u32 {
    1
}

/// Longer ones could not be added to a time.
const LONGEST: Duration = Duration::from_hours(10_000 * 24);

/// Each read counts the steps.
const MOST_STEPS: u32 = 10_000;

fn duration<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(value)?;
    let duration = humantime::parse_duration(&text).map_err(serde::de::Error::custom)?;
    if duration > LONGEST {
        return Err(serde::de::Error::custom("longer than 10000 days"));
    }
    Ok(duration)
}

fn growth<'de, D: serde::Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    let steps = u32::deserialize(value)?;
    if steps > MOST_STEPS {
        return Err(serde::de::Error::custom("more than 10000 steps"));
    }
    Ok(steps)
}

fn some_duration<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    duration(value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_sandbox_can_do_is_no_script() {
        for behaviour in [
            "reply_after = \"1000000years\"",
            "steps = [{ at = \"99999years\", reply = [] }]",
            "growth = 4294967295",
        ] {
            let script = Script::parse(&format!("[behaviour]\n{behaviour}\n"));

            assert!(script.is_err(), "{behaviour}");
        }
    }

    #[test]
    fn a_script_in_toml_says_what_it_says() {
        let script = Script::parse(
            r#"
            seed = 7
            key = "sk-right"
            behaviour = { reply = ["Hello.", [{ type = "image_file", image_file = { file_id = "f" } }]], reply_after = "1m 5s" }

            [[rules]]
            when = "break"
            times = 2
            [rules.behaviour]
            ending = "failed"
            failure = { words = "no such table", place = "error_message" }
            steps = [{ at = "500ms", reply = ["He"] }]
            reads = [{ from = 2, answer = "reset" }, { count = 1, answer = { cut = 9 } }]
            foreign = [{ text = "hi", at = { after = "2s" } }, { text = "hi", at = "before" }]
            shape = { order = "newest_first", omit = ["id", "created_at"], window = 20, run_status = "bare" }
            [rules.behaviour.post]
            lands = { after = "30s" }
            answer = { canned = { status = 503, retry_after = "2" } }
            "#,
        )
        .unwrap();

        let rule = &script.rules[0];
        let reply_after = script.behaviour.reply_after;
        assert_eq!(reply_after, Some(Duration::from_secs(65)));
        assert_eq!(script.key.unwrap().0.expose(), "sk-right");
        assert_eq!(rule.times, Some(2));
        assert_eq!(
            rule.behaviour.post.lands,
            Some(Lands::After(Duration::from_secs(30)))
        );
        assert!(rule.behaviour.reads[0].concerns(99) && !rule.behaviour.reads[0].concerns(1));
        assert!(rule.behaviour.reads[1].concerns(1) && !rule.behaviour.reads[1].concerns(2));
    }

    #[test]
    fn a_script_may_be_json_and_a_typo_is_an_error() {
        assert!(
            Script::parse(
                r#" {"rules": [{"behaviour": {"post": {"answer": {"without": ["thread_id"]}}}}]}"#
            )
            .is_ok()
        );
        assert!(Script::parse("rule = []").is_err());
        assert!(Script::parse("{\"behavior\": {}}").is_err());
    }

    #[test]
    fn a_scripts_key_is_not_printed() {
        let script = Script {
            key: Some(RightKey(Secret::new("sk-right"))),
            ..Script::default()
        };

        assert!(!format!("{script:?}").contains("sk-"));
    }
}
