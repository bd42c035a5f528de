//! Answers in a form: what callers ask for, and an upstream that gives it well, badly, or amid words.

use std::sync::{Arc, LazyLock};

use chaturdata_proxy::conversation::transcript::BORDER;
use chaturdata_proxy::form::{Described, Form, Json, Strict, WITHDRAWN};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What callers ask for; one answer is good for all of them.
pub static FORMS: LazyLock<[Arc<Form>; 2]> = LazyLock::new(|| ["a", "b"].map(form));

/// How a message that is to be mended begins.
pub const MENDING: &str = "Mend this answer";

fn form(name: &str) -> Arc<Form> {
    let schema = json!({
        "type": "object",
        "properties": {"said": {"type": "string"}},
        "required": ["said"],
        "additionalProperties": false,
    });
    let described = Described {
        name: Some(name),
        description: None,
        strict: Strict::No,
    };
    Arc::new(Form::json(Json::schema(&schema, "schema", described).unwrap()))
}

/// What a message says of the form of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Whole(usize),
    Reminded,
    Withdrawn,
}

/// A message apart from what it says of the form of its answer.
pub fn parted(post: &str) -> (&str, Told) {
    let without = |text: &str| post.strip_suffix(text)?.strip_suffix(BORDER);
    for (at, form) in FORMS.iter().enumerate() {
        if let Some(rest) = without(form.block()) {
            return (rest, Told::Whole(at));
        }
        if let Some(rest) = without(form.reminder()) {
            return (rest, Told::Reminded);
        }
    }
    match without(WITHDRAWN) {
        Some(rest) => (rest, Told::Withdrawn),
        None => (post, Told::Nothing),
    }
}

/// What was asked with this message.
pub fn prompt(post: &str) -> &str {
    let (asked, _) = parted(post);
    asked.rsplit(BORDER).next().unwrap_or(asked)
}

/// What the sandbox says after these messages.
pub fn recital(posts: &[String]) -> String {
    let mut hash = Sha256::new();
    for post in posts {
        hash.update((post.len() as u64).to_le_bytes());
        hash.update(post);
    }
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What the upstream makes of a recital after this message.
pub fn spoken(post: &str, recital: &str) -> String {
    let (_, told) = parted(post);
    if matches!(told, Told::Nothing | Told::Withdrawn) {
        return recital.to_owned();
    }
    let good = good(recital);
    match recital.as_bytes()[0] {
        b'0'..=b'7' => good,
        b'8' | b'9' => format!("Here you are:\n\n```json\n{good}\n```"),
        _ if post.starts_with(MENDING) && recital.as_bytes()[0] < b'd' => good,
        b'a' => recital.to_owned(),
        b'b' | b'd' => "{\"said\":5}".to_owned() + recital,
        b'c' => format!("{{\"said\":\"{recital}"),
        _ => format!("{{\"said\":\"{recital}\",\"more\":true}}"),
    }
}

/// As much of what the upstream says as it shows by now, where this much of a recital is there.
pub fn shown(posts: &[String], partial: &str) -> Option<String> {
    const WHOLE: usize = 16;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if partial.is_empty() || partial.len() > WHOLE || !partial.bytes().all(is_hex) {
        return None;
    }
    let recitals = (1..=posts.len()).rev().map(|end| (end, recital(&posts[..end])));
    let (end, recital) = recitals
        .into_iter()
        .find(|(_, recital)| recital.starts_with(partial))?;
    let mut spoken = spoken(&posts[end - 1], &recital);
    spoken.truncate(spoken.len() * partial.len() / WHOLE);
    Some(spoken)
}

fn good(recital: &str) -> String {
    json!({"said": recital}).to_string()
}

/// Every answer that its caller may be told of what the upstream says, with the mending messages that
/// led there.
pub fn tellable(spoken: &str, post: &str, recital: &str, scratch: &[String]) -> Vec<String> {
    if matches!(parted(post).1, Told::Nothing | Told::Withdrawn) {
        return vec![spoken.to_owned()];
    }
    if spoken.contains(&good(recital)) {
        return vec![good(recital)];
    }
    let quotes = |mending: &&String| mending.contains(&format!("\n\n{spoken}{BORDER}"));
    let mended = scratch.iter().filter(quotes).flat_map(|mending| {
        let recital = self::recital(std::slice::from_ref(mending));
        tellable(&self::spoken(mending, &recital), mending, &recital, scratch)
    });
    mended.collect()
}

/// Whether an answer is in the form that was asked for.
pub fn is_formed(answer: &str) -> bool {
    let Ok(Value::Object(object)) = serde_json::from_str(answer) else {
        return false;
    };
    object.len() == 1 && object.get("said").is_some_and(Value::is_string)
}
