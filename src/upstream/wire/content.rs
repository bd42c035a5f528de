//! One message of a thread: whatever it holds becomes text and annotations.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use serde_json_borrow::{ObjectAsVec as Object, Value};

use crate::upstream::{Annotation, Message, Role};

/// A thousand times the seconds of any date near ours are milliseconds.
const MILLISECONDS: f64 = 1e11;

/// `None` where the value carries nothing at all.
pub fn message(value: &Value<'_>) -> Option<Message> {
    let mut text = Text::default();
    let Value::Object(fields) = value else {
        text.content(value);
        return (!text.joined.is_empty()).then(|| Message {
            text: text.joined,
            annotations: text.annotations,
            ..Message::default()
        });
    };
    match fields.get("content") {
        None | Some(Value::Null) => text.words(fields.get("text")),
        Some(content) => text.content(content),
    }
    let message = Message {
        id: fields.get("id").and_then(id),
        role: fields.get("role").and_then(role),
        created_at: fields.get("created_at").and_then(seconds),
        text: text.joined,
        annotations: text.annotations,
    };
    (message != Message::default()).then_some(message)
}

/// An id, as text or as a number.
pub fn id(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Str(id) if !id.is_empty() => Some(id.to_string()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn role(value: &Value<'_>) -> Option<Role> {
    match value.as_str()? {
        "user" => Some(Role::User),
        "assistant" => Some(Role::Assistant),
        _ => None,
    }
}

fn seconds(value: &Value<'_>) -> Option<f64> {
    let seconds = match value {
        Value::Number(seconds) => seconds.as_f64()?,
        Value::Str(text) => match text.parse() {
            Ok(seconds) => seconds,
            Err(_) => humantime::parse_rfc3339_weak(text)
                .ok()?
                .duration_since(UNIX_EPOCH)
                .ok()?
                .as_secs_f64(),
        },
        _ => return None,
    };
    let seconds: f64 = if seconds > MILLISECONDS {
        seconds / 1000.0
    } else {
        seconds
    };
    seconds.is_finite().then_some(seconds)
}

/// The parts of a message, joined by a blank line.
#[derive(Default)]
struct Text {
    joined: String,
    /// Bytes of which the characters were counted, and how many they are.
    counted: (usize, usize),
    annotations: Vec<Annotation>,
}

impl Text {
    fn content(&mut self, content: &Value<'_>) {
        match content {
            Value::Null => {}
            Value::Str(text) => self.push(text),
            Value::Bool(_) | Value::Number(_) => self.push(&content.to_string()),
            Value::Array(parts) => parts.iter().for_each(|part| self.content(part)),
            Value::Object(part) => self.part(part),
        }
    }

    fn part(&mut self, part: &Object<'_>) {
        match part.get("type").and_then(Value::as_str) {
            None if part.contains_key("text") => self.words(part.get("text")),
            Some("text" | "output_text" | "input_text") => self.words(part.get("text")),
            Some("refusal") => self.words(part.get("refusal")),
            Some("image_url") => match inner(part, "image_url", "url") {
                Some(url) => self.push(&format!("![image]({})", markdown_url(url))),
                None => self.push(&note("image_url", part)),
            },
            kind => self.push(&note(kind.unwrap_or("unknown"), part)),
        }
    }

    /// Text as a bare string, or as `value` beside its annotations.
    fn words(&mut self, text: Option<&Value<'_>>) {
        let Some(Value::Object(text)) = text else {
            if let Some(text) = text {
                self.content(text);
            }
            return;
        };
        let Some(value) = text.get("value").and_then(Value::as_str) else {
            return;
        };
        self.push(value);
        if let Some(Value::Array(annotations)) = text.get("annotations")
            && !annotations.is_empty()
        {
            let chars = value.chars().count();
            let before = self.chars().saturating_sub(chars);
            let kept = annotations.iter().filter_map(|a| annotation(a, chars));
            self.annotations.extend(kept.map(|annotation| Annotation {
                start: before.saturating_add(annotation.start),
                end: before.saturating_add(annotation.end),
                ..annotation
            }));
        }
    }

    fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.joined.is_empty() {
            self.joined.push_str("\n\n");
        }
        self.joined.push_str(text);
    }

    /// How many characters there are by now.
    fn chars(&mut self) -> usize {
        let (bytes, chars) = self.counted;
        let more = self.joined.get(bytes..).unwrap_or_default();
        let chars = chars + more.chars().count();
        self.counted = (self.joined.len(), chars);
        chars
    }
}

/// A source, its offsets held within a text of so many characters.
fn annotation(value: &Value<'_>, chars: usize) -> Option<Annotation> {
    let value = value.as_object()?;
    if value.get("type")?.as_str()? != "url_citation" {
        return None;
    }
    let source = match value.get("url_citation") {
        Some(source) => source.as_object()?,
        None => value,
    };
    let offset = |name| {
        let offset = source.get(name).or_else(|| value.get(name))?.as_u64()?;
        usize::try_from(offset).ok()
    };
    let end = offset("end_index").unwrap_or(chars).min(chars);
    Some(Annotation {
        start: offset("start_index").unwrap_or(end).min(end),
        end,
        url: source.get("url")?.as_str()?.to_owned(),
        title: source
            .get("title")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}

/// `part.name` as text, or `part.name.field`.
fn inner<'a>(part: &'a Object<'_>, name: &str, field: &str) -> Option<&'a str> {
    let value = part.get(name)?;
    value
        .as_str()
        .or_else(|| value.as_object()?.get(field)?.as_str())
        .filter(|text| !text.is_empty())
}

/// What stands for content that is not text.
fn note(kind: &str, part: &Object<'_>) -> String {
    let id = inner(part, kind, "file_id")
        .or_else(|| inner(part, kind, "id"))
        .or_else(|| inner(part, "file_id", ""))
        .or_else(|| inner(part, "id", ""))
        .map(label)
        .filter(|id| !id.is_empty());
    match (kind, id) {
        ("image_file", Some(id)) => format!("[image file {id}]"),
        (_, Some(id)) => format!("[content of kind {} {id}]", label(kind)),
        (_, None) => format!("[content of kind {}]", label(kind)),
    }
}

/// A name short and plain enough to stand in a bracketed note.
fn label(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric() || "-_.:/".contains(*c))
        .take(80)
        .collect()
}

/// The URL with everything encoded that could end it, or the Markdown around it, early.
fn markdown_url(url: &str) -> String {
    let mut encoded = String::with_capacity(url.len());
    for c in url.trim().chars() {
        if c.is_whitespace() || c.is_control() || "()<>[]\\\"'`".contains(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        } else {
            encoded.push(c);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &serde_json::Value) -> Option<Message> {
        message(&serde_json::from_str(&value.to_string()).unwrap())
    }

    #[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
    fn check(content: serde_json::Value, expected: &str) {
        let message = read(&json!({"id": "m", "content": content})).unwrap();
        assert_eq!(message.text, expected, "{content}");
    }

    #[test]
    fn text_of_every_shape_is_read() {
        check(json!("bare"), "bare");
        check(json!(null), "");
        check(json!(42), "42");
        check(json!([]), "");
        check(json!(["a", {"type": "text", "text": "b"}]), "a\n\nb");
        check(
            json!([{"type": "text", "text": {"value": "a\n", "annotations": 3}}]),
            "a\n",
        );
        check(
            json!({"type": "text", "text": {"value": "one part"}}),
            "one part",
        );
        check(json!([{"text": {"value": "no type"}}]), "no type");
        check(json!([{"type": "text", "text": {"value": ""}}, "b"]), "b");
        check(json!([{"type": "text", "text": null}]), "");
        check(json!([{"type": "text"}]), "");
        check(
            json!([{"type": "refusal", "refusal": "I cannot"}]),
            "I cannot",
        );
    }

    #[test]
    fn what_is_not_text_becomes_an_image_or_a_note() {
        let image = |url: serde_json::Value| json!([{"type": "image_url", "image_url": url}]);
        let file = json!({"file_id": "file_1"});

        check(
            json!([{"type": "image_file", "image_file": file}]),
            "[image file file_1]",
        );
        check(
            json!([{"type": "image_file", "file_id": "f]\n(x)"}]),
            "[image file fx]",
        );
        check(
            json!([{"type": "image_file"}]),
            "[content of kind image_file]",
        );
        check(
            image(json!({"url": "https://x/a.png"})),
            "![image](https://x/a.png)",
        );
        check(
            image(json!("https://x/a b)\n(c")),
            "![image](https://x/a%20b%29%0A%28c)",
        );
        check(image(json!(4)), "[content of kind image_url]");
        check(
            json!([{"type": "chart", "id": "c_9"}]),
            "[content of kind chart c_9]",
        );
        check(
            json!([{"type": "t]\n![x](y)", "text": "t"}]),
            "[content of kind txy]",
        );
        check(json!([{"series": [1]}]), "[content of kind unknown]");
    }

    #[test]
    fn a_message_is_skipped_only_where_it_carries_nothing() {
        let kept = [
            json!({"id": "m"}),
            json!({"role": "user"}),
            json!("x"),
            json!(["x"]),
            json!({"text": "x"}),
            json!({"text": {"value": "x"}}),
        ];
        let skipped = [
            json!(null),
            json!({}),
            json!([]),
            json!({"role": "tool", "content": []}),
            json!(""),
        ];

        assert!(kept.iter().all(|value| read(value).is_some()));
        assert!(skipped.iter().all(|value| read(value).is_none()));
    }

    #[test]
    fn roles_ids_and_times_are_read_in_every_spelling() {
        let table = [
            (
                json!({"id": 7, "role": "user", "created_at": 1_700_000_000}),
                Some("7"),
                Some(Role::User),
                Some(1.7e9),
            ),
            (
                json!({"id": "m", "role": "assistant", "created_at": 1.5}),
                Some("m"),
                Some(Role::Assistant),
                Some(1.5),
            ),
            (
                json!({"id": "m", "role": 4, "created_at": "2023-11-14T22:13:20.5Z"}),
                Some("m"),
                None,
                Some(1_700_000_000.5),
            ),
            (
                json!({"id": "m", "created_at": "1700000000"}),
                Some("m"),
                None,
                Some(1.7e9),
            ),
            (
                json!({"id": "m", "created_at": 1_700_000_000_000_i64}),
                Some("m"),
                None,
                Some(1.7e9),
            ),
            (
                json!({"id": [], "content": "x", "created_at": "NaN"}),
                None,
                None,
                None,
            ),
            (
                json!({"content": "x", "created_at": "yesterday, at noon or so"}),
                None,
                None,
                None,
            ),
        ];

        for (value, id, role, created_at) in table {
            let message = read(&value).unwrap();

            assert_eq!(
                (message.id.as_deref(), message.role, message.created_at),
                (id, role, created_at),
                "{value}"
            );
        }
    }

    #[test]
    fn citations_are_shifted_into_the_joined_text() {
        let cited = json!({"value": "é says so", "annotations": [
            {"type": "url_citation", "start_index": 2, "end_index": 6, "url": "https://x", "title": "X"},
            {"type": "url_citation", "url_citation": {"start_index": 90, "end_index": 99, "url": "https://y"}},
            {"type": "url_citation", "start_index": 0},
            {"type": "file_citation", "file_citation": {"file_id": "f"}},
            "?",
        ]});
        let part = |text: &serde_json::Value| json!({"type": "text", "text": text});
        let parts = [&json!("né"), &cited, &json!("ñ"), &cited].map(part);

        let message = read(&json!({ "content": parts })).unwrap();

        let seen: Vec<_> = message
            .annotations
            .iter()
            .map(|a| (a.start, a.end, a.url.as_str(), a.title.as_str()))
            .collect();
        assert_eq!(message.text, "né\n\né says so\n\nñ\n\né says so");
        assert_eq!(
            seen,
            [
                (6, 10, "https://x", "X"),
                (13, 13, "https://y", ""),
                (20, 24, "https://x", "X"),
                (27, 27, "https://y", ""),
            ]
        );
    }
}
