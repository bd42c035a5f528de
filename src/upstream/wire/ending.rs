//! How a run stands, and the upstream's own words for what went wrong.

use serde_json_borrow::{ObjectAsVec as Object, Value};

use crate::upstream::RunStatus;

/// Longest quotation of the upstream's words, in characters.
pub const WORDS: usize = 500;

/// `None` where there is none that can be read. Words that are not known are pending.
pub fn status(body: &Object<'_>) -> Option<RunStatus> {
    let word = match body.get("run_status")? {
        Value::Str(word) => word,
        Value::Object(run) => run.get("status")?.as_str()?,
        _ => return None,
    };
    match word.trim().to_ascii_lowercase().as_str() {
        "" => None,
        "completed" => Some(RunStatus::Completed),
        "incomplete" => Some(RunStatus::Incomplete),
        "expired" => Some(RunStatus::Expired),
        "cancelled" | "canceled" => Some(RunStatus::Cancelled),
        "failed" => Some(RunStatus::Failed),
        _ => Some(RunStatus::Pending),
    }
}

/// Why a run ended badly; elsewhere `message` may be a courtesy.
pub fn failure(status: Option<RunStatus>, body: &Object<'_>) -> Option<String> {
    match status? {
        RunStatus::Pending | RunStatus::Completed => None,
        RunStatus::Incomplete | RunStatus::Expired | RunStatus::Cancelled | RunStatus::Failed => {
            let run = body.get("run_status").and_then(Value::as_object);
            let words = run.and_then(complaint).or_else(|| complaint(body))?;
            Some(capped(&words)).filter(|words| !words.is_empty())
        }
    }
}

/// The words of an error, wherever they stand.
pub fn complaint(body: &Object<'_>) -> Option<String> {
    let text = |value: &Value<'_>| {
        let text = value.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    ["last_error", "error", "message", "text", "detail"]
        .into_iter()
        .find_map(|name| match body.get(name)? {
            Value::Object(error) => error.get("message").and_then(text),
            value => text(value),
        })
}

/// As much of the words as is quoted.
pub fn capped(words: &str) -> String {
    words
        .trim()
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(WORDS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(body: &str) -> Object<'_> {
        let value: Value<'_> = serde_json::from_str(body).unwrap();
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_status_word_is_an_ending_or_pending() {
        let table = [
            (r#"{"status":"completed"}"#, Some(RunStatus::Completed)),
            (r#""Completed""#, Some(RunStatus::Completed)),
            (r#""expired""#, Some(RunStatus::Expired)),
            (r#""cancelled""#, Some(RunStatus::Cancelled)),
            (r#""canceled""#, Some(RunStatus::Cancelled)),
            (r#"{"status":"failed"}"#, Some(RunStatus::Failed)),
            (r#"{"status":"incomplete"}"#, Some(RunStatus::Incomplete)),
            (r#""queued""#, Some(RunStatus::Pending)),
            (r#""requires_action""#, Some(RunStatus::Pending)),
            (r#"{"status":"cancelling"}"#, Some(RunStatus::Pending)),
            (r#""daydreaming""#, Some(RunStatus::Pending)),
            (r#"{}"#, None),
            (r#""""#, None),
            ("3", None),
        ];

        for (run, expected) in table {
            let body = format!(r#"{{"run_status":{run}}}"#);

            assert_eq!(status(&object(&body)), expected, "{run}");
        }
    }

    #[test]
    fn a_failed_run_is_told_in_the_upstreams_words_wherever_they_stand() {
        let table = [
            (
                r#""run_status":{"status":"failed","last_error":{"message":"w"}}"#,
                Some("w"),
            ),
            (
                r#""run_status":{"status":"failed","last_error":"w"}"#,
                Some("w"),
            ),
            (
                r#""run_status":{"status":"failed","last_error":{"code":1}},"error":"w""#,
                Some("w"),
            ),
            (r#""run_status":"failed","error":"w""#, Some("w")),
            (
                r#""run_status":"expired","error":{"message":"w"}"#,
                Some("w"),
            ),
            (r#""run_status":"cancelled","message":"w""#, Some("w")),
            (r#""run_status":"failed","message":["w"]"#, None),
            (r#""run_status":"failed","error":" ""#, None),
            (r#""run_status":"completed","message":"w""#, None),
        ];

        for (fields, expected) in table {
            let body = format!("{{{fields}}}");
            let body = object(&body);

            let words = failure(status(&body), &body);

            assert_eq!(words.as_deref(), expected, "{fields}");
        }
    }
}
