//! Answers in a form: what callers ask for, and an upstream that gives it well, badly, or amid words.

use std::sync::{Arc, LazyLock};

use chaturdata_proxy::conversation::transcript::BORDER;
use chaturdata_proxy::form::{
    Choice, Described, Form, Function, Json, Several, Strict, Tools, WITHDRAWN,
};
use chaturdata_proxy::run::Answer;
use chaturdata_proxy::upstream::sandbox::recital::recital;
use serde_json::{Value, json};

/// What callers ask for. One answer is good for all that want JSON, and one for all that may call.
pub static FORMS: LazyLock<[Arc<Form>; 4]> = LazyLock::new(|| {
    let calls = |choice| {
        let parameters = Some((&SCHEMA as &Value, "parameters"));
        let function = Function::new(FUNCTION, None, parameters, Strict::No).unwrap();
        Form::tools(Tools::new(vec![function], choice, Several::Allowed))
    };
    [
        json("a"),
        json("b"),
        calls(Choice::Required),
        calls(Choice::Auto),
    ]
    .map(Arc::new)
});

/// Of the forms, those from this one on are calls, and from the last on need not be.
const CALLS: usize = 2;
const MAY_CALL: usize = 3;

const FUNCTION: &str = "say";

/// How a message that is to be mended begins.
pub const MENDING: &str = "Mend this answer";

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "type": "object",
        "properties": {"said": {"type": "string"}},
        "required": ["said"],
        "additionalProperties": false,
    })
});

fn json(name: &str) -> Form {
    let described = Described {
        name: Some(name),
        description: None,
        strict: Strict::No,
    };
    Form::json(Json::schema(&SCHEMA, "schema", described).unwrap())
}

/// What a message says of the form of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Whole(usize),
    /// Of this form, or of one that is reminded of alike.
    Reminded(usize),
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
            return (rest, Told::Reminded(at));
        }
    }
    match without(WITHDRAWN) {
        Some(rest) => (rest, Told::Withdrawn),
        None => (post, Told::Nothing),
    }
}

/// What was asked with this message, or what came of a call.
pub fn prompt(post: &str) -> &str {
    let (asked, _) = parted(post);
    let asked = asked.rsplit(BORDER).next().unwrap_or(asked);
    unled(asked)
}

/// What came of a call is named for its function.
pub fn unled(prompt: &str) -> &str {
    let result = prompt.strip_prefix("Result of say: ");
    result.unwrap_or(prompt)
}

/// What the upstream makes of a recital after this message.
pub fn spoken(post: &str, recital: &str) -> String {
    let at = match parted(post).1 {
        Told::Nothing | Told::Withdrawn => return recital.to_owned(),
        Told::Whole(at) | Told::Reminded(at) => at,
    };
    let good = good(at, recital);
    let first = recital.as_bytes()[0];
    let is_mended = post.starts_with(MENDING) && first < b'd';
    match first {
        b'0'..=b'7' => good,
        b'8' | b'9' if at >= CALLS => format!("```json\n{good}\n```"),
        b'8' | b'9' => format!("Here you are:\n\n```json\n{good}\n```"),
        _ if is_mended => good,
        b'a' => recital.to_owned(),
        b'b' | b'd' => good.replace("\"said\":", "\"said\":5,\"by\":"),
        b'c' => good[..good.len() - 2].to_owned(),
        _ if at >= CALLS => good.replace(FUNCTION, "shout"),
        _ => good.replace('}', ",\"more\":true}"),
    }
}

/// As much of what the upstream says as it shows by now, where this much of a recital is there.
pub fn shown(posts: &[String], partial: &str) -> Option<String> {
    const WHOLE: usize = 16;
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if partial.is_empty() || partial.len() > WHOLE || !partial.bytes().all(is_hex) {
        return None;
    }
    let recitals = (1..=posts.len())
        .rev()
        .map(|end| (end, recital(&posts[..end])));
    let (end, recital) = recitals
        .into_iter()
        .find(|(_, recital)| recital.starts_with(partial))?;
    let mut spoken = spoken(&posts[end - 1], &recital);
    spoken.truncate(spoken.len() * partial.len() / WHOLE);
    Some(spoken)
}

/// What fits a form.
fn good(at: usize, recital: &str) -> String {
    let said = json!({"said": recital});
    if at < CALLS {
        return said.to_string();
    }
    json!({"tool_calls": [{"name": FUNCTION, "arguments": said}]}).to_string()
}

/// Every answer that its caller may be told of what the upstream says, with the mending messages that
/// led there.
pub fn tellable(spoken: &str, post: &str, recital: &str, scratch: &[String]) -> Vec<String> {
    let at = match parted(post).1 {
        Told::Nothing | Told::Withdrawn => return vec![spoken.to_owned()],
        Told::Whole(at) | Told::Reminded(at) => at,
    };
    if at == MAY_CALL && spoken == recital {
        return vec![spoken.to_owned()];
    }
    if spoken.contains(&good(at, recital)) {
        let said = json!({"said": recital}).to_string();
        return vec![if at < CALLS { said } else { called(&said) }];
    }
    let quotes = |mending: &&String| mending.contains(&format!("\n\n{spoken}{BORDER}"));
    let mended = scratch.iter().filter(quotes).flat_map(|mending| {
        let recital = self::recital([mending]);
        tellable(&self::spoken(mending, &recital), mending, &recital, scratch)
    });
    mended.collect()
}

/// Whether an answer is in the form that was asked for.
pub fn is_formed(at: usize, answer: &str) -> bool {
    let said = match arguments(answer) {
        Some(_) if at < CALLS => return false,
        Some(arguments) => arguments,
        None if at == MAY_CALL => return !answer.contains("said"),
        None if at >= CALLS => return false,
        None => answer,
    };
    let Ok(Value::Object(object)) = serde_json::from_str(said) else {
        return false;
    };
    object.len() == 1 && object.get("said").is_some_and(Value::is_string)
}

/// An answer as a caller remembers it: in words, calls as a transcript tells of them.
pub fn remembered(answer: &Answer) -> String {
    match &answer.calls[..] {
        [] => answer.text.clone(),
        [call] if call.name == FUNCTION => called(&call.arguments),
        other => format!("other calls: {other:?}"),
    }
}

fn called(arguments: &str) -> String {
    format!("{CALLED}{arguments}]")
}

/// What an answer gives to the function that it calls.
pub fn arguments(answer: &str) -> Option<&str> {
    answer.strip_prefix(CALLED)?.strip_suffix(']')
}

const CALLED: &str = "[called say with ";
