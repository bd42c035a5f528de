//! The upstream's HTTP answers as values: read leniently, since their shape is barely documented.

mod content;
mod ending;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json_borrow::Value;

use self::ending::{capped, complaint, failure, status};
use super::{Busy, PostError, Posted, ReadError, Refusal, Thread, ThreadId};

/// Longest thread id that is believed, in bytes; one with control characters is not.
const THREAD_ID: usize = 256;
/// No `Retry-After` above this means anything.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// An HTTP answer that was read to its end.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// Why there is no HTTP answer that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No byte of the request left.
    Unsent(String),
    /// The same, and the upstream's certificate is why.
    Certificate(String),
    /// Bytes may have left.
    Broken(String),
    /// It was too long to be taken in beside others.
    Crowded,
}

impl From<Failure> for PostError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(what) => Self::Unsent(what),
            Failure::Certificate(what) => Self::Certificate(what),
            Failure::Broken(what) => Self::Unknown(what),
            Failure::Crowded => Self::Unknown("its answer is too long".to_owned()),
        }
    }
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unsent(what) | Failure::Certificate(what) | Failure::Broken(what) => {
                Self::Passing(what)
            }
            // It can be read later as well.
            Failure::Crowded => Self::Busy(Busy::HERE),
        }
    }
}

impl Answered {
    /// `now` is what a `Retry-After` date is counted from.
    pub fn new(status: u16, headers: &HeaderMap, body: Bytes, now: SystemTime) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            retry_after: text(RETRY_AFTER).and_then(|text| wait(text, now)),
            content_type: text(CONTENT_TYPE).map(str::to_owned),
            body,
        }
    }

    fn json(&self) -> Option<Value<'_>> {
        let body: &[u8] = &self.body;
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        serde_json::from_slice(body).ok()
    }

    /// The upstream's own words in a failure; empty where there are none that can be quoted.
    fn words(&self) -> String {
        let html = |text: &str| text.trim_start().starts_with('<');
        let declared = self.content_type.as_deref().unwrap_or_default();
        if declared.to_ascii_lowercase().contains("html") {
            return String::new();
        }
        let words = match self.json() {
            Some(Value::Object(body)) => complaint(&body),
            Some(Value::Str(text)) => Some(text.into_owned()),
            Some(_) => None,
            None => std::str::from_utf8(&self.body).ok().map(str::to_owned),
        };
        words
            .filter(|text| !html(text))
            .map(|text| capped(&text))
            .unwrap_or_default()
    }
}

/// What the upstream says of a message posted on the thread `asked`, or on a new one.
pub fn posted(asked: Option<&ThreadId>, answer: &Answered) -> Result<Posted, PostError> {
    match answer.status {
        200 => accepted(asked, answer),
        status if refuses(status, answer.retry_after) => Err(PostError::Refused(Refusal {
            status,
            retry_after: answer.retry_after,
            words: answer.words(),
        })),
        status => Err(PostError::Unknown(format!("it answered {status}"))),
    }
}

/// Whether this status says that a message was not taken.
fn refuses(status: u16, retry_after: Option<Duration>) -> bool {
    match status {
        400 | 401 | 403 | 404 | 409 | 413 | 422 | 429 => true,
        503 => retry_after.is_some(),
        _ => false,
    }
}

/// What a read of a thread shows.
pub fn thread(answer: &Answered) -> Result<Thread, ReadError> {
    match answer.status {
        200 => shown(answer),
        status @ (401 | 403) => Err(ReadError::KeyRefused(status)),
        404 => Err(ReadError::NoThread),
        status @ (429 | 503) => Err(ReadError::Busy(Busy {
            status: Some(status),
            retry_after: answer.retry_after,
        })),
        status => Err(ReadError::Passing(format!("it answered {status}"))),
    }
}

fn accepted(asked: Option<&ThreadId>, answer: &Answered) -> Result<Posted, PostError> {
    let unknown = |what: &str| PostError::Unknown(what.to_owned());
    let Some(Value::Object(body)) = answer.json() else {
        return Err(unknown("its answer is not a JSON object"));
    };
    let Some(id) = body
        .get("thread_id")
        .and_then(content::id)
        .filter(|id| id.len() <= THREAD_ID && !id.chars().any(char::is_control))
    else {
        return Err(unknown("its answer names no thread"));
    };
    let thread = ThreadId(id.into());
    if asked.is_some_and(|asked| *asked != thread) {
        return Err(unknown("its answer names another thread than was asked"));
    }
    let status = status(&body);
    Ok(Posted {
        thread,
        status,
        failure: failure(status, &body),
    })
}

fn shown(answer: &Answered) -> Result<Thread, ReadError> {
    let passing = |what: &str| ReadError::Passing(what.to_owned());
    let Some(Value::Object(body)) = answer.json() else {
        return Err(passing("its answer is not a JSON object"));
    };
    let status = status(&body);
    let messages = match body.get("messages") {
        Some(Value::Array(messages)) => messages.iter().filter_map(content::message).collect(),
        None | Some(Value::Null) if status.is_some() => Vec::new(),
        _ => return Err(passing("its answer has no messages that can be read")),
    };
    Ok(Thread {
        messages,
        status,
        failure: failure(status, &body),
    })
}

/// Seconds, whole or not, or a date.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_nan() || seconds < 0.0 => return None,
        Ok(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::upstream::RunStatus;

    fn busy(status: u16) -> ReadError {
        ReadError::Busy(Busy {
            status: Some(status),
            retry_after: None,
        })
    }

    fn answered(status: u16, body: &str) -> Answered {
        Answered {
            status,
            retry_after: None,
            content_type: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn refused(status: u16, content_type: Option<&str>, body: &str) -> String {
        let answer = Answered {
            content_type: content_type.map(str::to_owned),
            ..answered(status, body)
        };
        match posted(None, &answer) {
            Err(PostError::Refused(refusal)) => refusal.words,
            other => panic!("not a refusal: {other:?}"),
        }
    }

    #[test]
    fn a_usable_200_is_a_post() {
        let asked = ThreadId("th_1".into());
        let table = [
            (
                r#"{"thread_id":"th_1","run_status":{"status":"in_progress"}}"#,
                Some(RunStatus::Pending),
            ),
            (
                r#"{"thread_id":"th_1","run_status":"completed","message":"ok"}"#,
                Some(RunStatus::Completed),
            ),
            (r#"{"thread_id":"th_1","run_status":{"status":7}}"#, None),
            (r#"{"thread_id":"th_1","run_status":null}"#, None),
            ("\u{feff}{\"thread_id\":\"th_1\"}", None),
        ];

        for (body, status) in table {
            let posted = posted(Some(&asked), &answered(200, body)).unwrap();

            assert_eq!((posted.status, posted.failure), (status, None), "{body}");
        }
    }

    #[test]
    fn whatever_is_no_usable_200_and_no_refusal_is_unknown() {
        let asked = ThreadId("th_1".into());
        let whole = r#"{"thread_id":"th_1"}"#;
        let table = [
            (200, r#"{"thread_id":"th_2"}"#),
            (200, r#"{"thread_id":""}"#),
            (200, r#"{"thread_id":"th\u007f1"}"#),
            (200, r#"{"thread_id":["th_1"]}"#),
            (200, r#"{"run_status":"completed"}"#),
            (200, r#"{"thread_id":"th_1""#),
            (200, "<html>hello</html>"),
            (200, ""),
            (201, whole),
            (204, ""),
            (302, ""),
            (307, whole),
            (402, ""),
            (408, ""),
            (418, ""),
            (500, whole),
            (502, "<html>"),
            (503, ""),
            (504, ""),
        ];

        for (status, body) in table {
            let outcome = posted(Some(&asked), &answered(status, body));

            assert!(
                matches!(outcome, Err(PostError::Unknown(_))),
                "{status} {body}: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_upstreams_words() {
        let table = [
            (400, None, r#"{"error":{"message":"too long"}}"#, "too long"),
            (401, None, r#"{"error":"bad key"}"#, "bad key"),
            (403, None, r#"{"message":"no"}"#, "no"),
            (404, None, r#"{"text":"gone"}"#, "gone"),
            (
                409,
                Some("text/plain"),
                " a run is active\u{7} ",
                "a run is active",
            ),
            (413, Some("text/html; charset=utf-8"), "big", ""),
            (422, None, "<!doctype html><p>no", ""),
            (422, None, r#"{"error":{"message":"<html>"}}"#, ""),
            (429, None, r#"[1]"#, ""),
            (429, None, r#"{"error":{"code":3}}"#, ""),
        ];

        for (status, content_type, body, words) in table {
            assert_eq!(refused(status, content_type, body), words, "{body}");
        }
        assert_eq!(
            refused(400, None, &"é".repeat(2000)).chars().count(),
            ending::WORDS
        );
    }

    #[test]
    fn busy_is_a_refusal_of_a_post_only_where_it_says_how_long() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, http::HeaderValue::from_static("1.5"));

        let answer = Answered::new(503, &headers, Bytes::new(), SystemTime::UNIX_EPOCH);

        let Err(PostError::Refused(refusal)) = posted(None, &answer) else {
            panic!("not a refusal");
        };
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let table = [
            ("7", Some(Duration::from_secs(7))),
            (" 0.25 ", Some(Duration::from_millis(250))),
            (
                "Sun, 06 Nov 1994 08:49:37 GMT",
                Some(Duration::from_secs(7)),
            ),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(Duration::ZERO)),
            ("1e300", Some(LONGEST_WAIT)),
            ("inf", Some(LONGEST_WAIT)),
            ("-3", None),
            ("NaN", None),
            ("soon", None),
        ];

        for (text, expected) in table {
            assert_eq!(wait(text, now), expected, "{text}");
        }
    }

    #[test]
    fn a_read_that_shows_no_thread_says_why() {
        let table = [
            (401, "", ReadError::KeyRefused(401)),
            (403, "<html>", ReadError::KeyRefused(403)),
            (404, "", ReadError::NoThread),
            (429, "", busy(429)),
            (503, "", busy(503)),
            (500, "", ReadError::Passing("it answered 500".into())),
            (302, "", ReadError::Passing("it answered 302".into())),
            (
                200,
                "<html>",
                ReadError::Passing("its answer is not a JSON object".into()),
            ),
            (
                200,
                "[]",
                ReadError::Passing("its answer is not a JSON object".into()),
            ),
            (
                200,
                "{}",
                ReadError::Passing("its answer has no messages that can be read".into()),
            ),
            (
                200,
                r#"{"messages":"?"}"#,
                ReadError::Passing("its answer has no messages that can be read".into()),
            ),
        ];

        for (status, body, error) in table {
            assert_eq!(
                thread(&answered(status, body)),
                Err(error),
                "{status} {body}"
            );
        }
    }

    /// JSON in about the shape of the upstream's, with anything anywhere.
    fn odd_json() -> impl Strategy<Value = String> {
        let names = "thread_id|messages|run_status|status|content|type|text|value|annotations|\
                     image_url|url|image_file|role|created_at|id|start_index|end_index|last_error";
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<f64>().prop_map(|n| format!("{n:e}")),
            any::<i64>().prop_map(|n| n.to_string()),
            "text|image_url|url_citation|failed|é\\)|\\PC{0,6}"
                .prop_map(|s| serde_json::Value::String(s).to_string()),
        ];
        leaf.prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(|v| format!("[{}]", v.join(","))),
                prop::collection::vec((names, inner), 0..6).prop_map(|fields| {
                    let fields: Vec<_> =
                        fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), status in 100u16..600) {
            let answer = Answered { body: body.into(), ..answered(status, "") };

            let _ = (posted(None, &answer), thread(&answer));
        }

        #[test]
        fn no_shape_panics(body in odd_json()) {
            let answer = answered(200, &format!("{{\"messages\":[{body}],\"run_status\":{body}}}"));

            if let Ok(thread) = thread(&answer) {
                for message in thread.messages {
                    let chars = message.text.chars().count();
                    prop_assert!(message.annotations.iter().all(|a| a.start <= a.end && a.end <= chars));
                }
            }
        }
    }
}
