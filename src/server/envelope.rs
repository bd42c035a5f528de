//! What a request says outside its body, read off its head and checked.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::refusal::Refusal;
use crate::config::Config;
use crate::conversation::Caller;
use crate::openai::Envelope;
use crate::openai::names::is_placeholder;

const CONVERSATION_ID: HeaderName = HeaderName::from_static("x-conversation-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const READ_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-read-timeout");

/// Bytes of the longest name that a caller may give to anything.
const LONGEST_NAME: usize = 256;

/// Shorter patience than this is not heeded: no answer could be in time for it.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// Which headers to look at, beside those that always mean the same.
#[derive(Clone, Debug)]
pub struct Heads(Arc<Names>);

#[derive(Debug)]
struct Names {
    narrow: Vec<HeaderName>,
    users: Vec<HeaderName>,
    side_call: Vec<HeaderName>,
    deadline: Duration,
    limit: Duration,
}

impl Heads {
    /// Names that are no header names match nothing.
    pub fn new(config: &Config) -> Self {
        let names = |names: &[String]| {
            names
                .iter()
                .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .collect()
        };
        Self(Arc::new(Names {
            narrow: names(&config.conversations.narrow_headers),
            users: names(&config.conversations.user_headers),
            side_call: names(&config.conversations.side_call_headers),
            deadline: config.run.deadline,
            limit: config.run.limit,
        }))
    }
}

/// All of it but the body's hash, which whoever reads the body fills in.
pub fn envelope(heads: &Heads, headers: &HeaderMap, caller: Caller) -> Result<Envelope, Refusal> {
    let Heads(names) = heads;
    let marked = text(headers, &RETRY_COUNT)?.and_then(|count| count.parse::<u64>().ok());
    let idempotency_key = text(headers, &IDEMPOTENCY_KEY)?
        .filter(|key| !key.is_empty())
        .map(|key| bounded(key, &IDEMPOTENCY_KEY));
    let patience = text(headers, &READ_TIMEOUT)?.and_then(|seconds| seconds_of(&seconds));
    Ok(Envelope {
        caller,
        handle: name(headers, &CONVERSATION_ID)?,
        narrow: first(headers, &names.narrow)?,
        users: all(headers, &names.users)?,
        side_call: first(headers, &names.side_call)?,
        idempotency_key: idempotency_key.transpose()?,
        marked: marked.is_some_and(|count| count > 0),
        patience: patience.filter(|patience| *patience >= LEAST_PATIENCE),
        deadline: deadline(headers, names)?,
        body: [0; 32],
    })
}

fn deadline(headers: &HeaderMap, names: &Names) -> Result<Duration, Refusal> {
    let Some(seconds) = text(headers, &REQUEST_TIMEOUT)? else {
        return Ok(names.deadline.min(names.limit));
    };
    match seconds_of(&seconds) {
        Some(deadline) => Ok(deadline.min(names.limit)),
        None => Err(Refusal::Value {
            message: "X-Request-Timeout is a number of seconds above 0".to_owned(),
            param: Some("X-Request-Timeout".to_owned()),
        }),
    }
}

/// A number of seconds above 0; one too large for a duration is as good as none being set.
fn seconds_of(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    if !seconds.is_finite() || seconds <= 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

fn first(headers: &HeaderMap, names: &[HeaderName]) -> Result<Option<String>, Refusal> {
    for header in names {
        if let Some(value) = name(headers, header)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn all(headers: &HeaderMap, names: &[HeaderName]) -> Result<Vec<String>, Refusal> {
    let mut values = Vec::new();
    for header in names {
        values.extend(name(headers, header)?);
    }
    Ok(values)
}

/// A name that the caller gives to something; `None` where it is one that programs send when
/// they have none.
fn name(headers: &HeaderMap, header: &HeaderName) -> Result<Option<String>, Refusal> {
    let Some(name) = text(headers, header)? else {
        return Ok(None);
    };
    if is_placeholder(&name) {
        return Ok(None);
    }
    bounded(name, header).map(Some)
}

fn bounded(name: String, header: &HeaderName) -> Result<String, Refusal> {
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Refusal::Value {
            message: format!("{header} is 1 to {LONGEST_NAME} bytes without control characters"),
            param: Some(header.to_string()),
        });
    }
    Ok(name)
}

/// The one value of a header; several would be for somebody else to choose from.
fn text(headers: &HeaderMap, header: &HeaderName) -> Result<Option<String>, Refusal> {
    let refused = |message: &str| Refusal::Value {
        message: format!("{header} {message}"),
        param: Some(header.to_string()),
    };
    let mut values = headers.get_all(header).iter().map(HeaderValue::as_bytes);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != value) {
        return Err(refused("is there twice, with different values"));
    }
    match str::from_utf8(value) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(_) => Err(refused("is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Tenant;
    use crate::secret::Secret;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Envelope, Refusal> {
        let heads = Heads(Arc::new(Names {
            narrow: vec![
                HeaderName::from_static("x-chat"),
                HeaderName::from_static("x-talk"),
            ],
            users: vec![HeaderName::from_static("x-user")],
            side_call: vec![HeaderName::from_static("x-side")],
            deadline: Duration::from_secs(590),
            limit: Duration::from_secs(1800),
        }));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let caller = Caller {
            tenant: Tenant([0; 32]),
            account: Tenant([0; 32]),
            key: Secret::new("sk"),
        };
        envelope(&heads, &headers, caller)
    }

    fn handle(value: &str) -> Result<Option<String>, ()> {
        read(&[("x-conversation-id", value)])
            .map(|read| read.handle)
            .map_err(|_| ())
    }

    #[test]
    fn what_programs_send_for_none_is_no_handle() {
        for none in [
            "",
            "new",
            "null",
            "undefined",
            "{{LIBRECHAT_BODY_CONVERSATIONID}}",
        ] {
            assert_eq!(handle(none), Ok(None), "{none}");
        }
        assert_eq!(handle("orders-7"), Ok(Some("orders-7".to_owned())));
        assert_eq!(handle("Grüße"), Ok(Some("Grüße".to_owned())));
        assert!(handle(&"x".repeat(256)).is_ok());
        assert_eq!(handle(&"x".repeat(257)), Err(()));
        assert_eq!(handle("a\u{85}b"), Err(()));
        assert_eq!(handle("a\tb"), Err(()));
    }

    #[test]
    fn a_handle_is_there_once() {
        let twice = [("x-conversation-id", "a"), ("x-conversation-id", "b")];

        assert!(matches!(read(&twice), Err(Refusal::Value { .. })));
    }

    #[test]
    fn the_first_narrowing_header_counts() {
        let read = read(&[("x-talk", "t"), ("x-chat", "c"), ("x-user", "u")])
            .ok()
            .unwrap();

        assert_eq!(read.narrow.as_deref(), Some("c"));
        assert_eq!(read.users, ["u"]);
    }

    #[test]
    fn a_timeout_is_seconds_and_at_most_the_runs_limit() {
        let deadline = |value| {
            read(&[("x-request-timeout", value)])
                .map(|read| read.deadline.as_secs_f64())
                .ok()
        };

        assert_eq!(deadline("30"), Some(30.0));
        assert_eq!(deadline("0.5"), Some(0.5));
        assert_eq!(deadline("99999999999999999999999"), Some(1800.0));
        for bad in ["0", "-1", "soon", "NaN", "inf", "30s", ""] {
            assert_eq!(deadline(bad), None, "{bad}");
        }
        assert_eq!(read(&[]).ok().unwrap().deadline.as_secs(), 590);
    }

    #[test]
    fn an_sdks_marks_are_read() {
        let read = |count, patience| {
            let pairs = [
                ("x-stainless-retry-count", count),
                ("x-stainless-read-timeout", patience),
            ];
            let read = read(&pairs).ok().unwrap();
            (
                read.marked,
                read.patience.map(|patience| patience.as_secs_f64()),
            )
        };

        assert_eq!(read("0", "600"), (false, Some(600.0)));
        assert_eq!(read("2", "2.5"), (true, Some(2.5)));
        assert_eq!(read("x", "1.9"), (false, None));
    }
}
