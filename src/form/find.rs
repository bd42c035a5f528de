//! JSON as it is found in an answer: bare, in a fence, or among prose.

use serde_json::Value;

/// A JSON value of an answer, and the text that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    pub text: &'a str,
    pub value: Value,
}

/// Every value that can have been meant as the answer, in order: the whole text where that is JSON,
/// else what stands in fences, else what stands among prose.
pub fn values(answer: &str) -> Vec<Found<'_>> {
    if let Some(whole) = parsed(answer) {
        return vec![whole];
    }
    let fenced: Vec<_> = fences(answer)
        .filter_map(|fence| {
            let found = parsed(fence.body)?;
            (is_nested(&found.value) || fence.says_json).then_some(found)
        })
        .collect();
    if fenced.is_empty() {
        among_prose(answer)
    } else {
        fenced
    }
}

/// The answer without the one fence that may stand around the whole of it.
pub fn unfenced(answer: &str) -> &str {
    let answer = answer.trim();
    match fences(answer).next() {
        Some(fence) if fence.is_all => fence.body.trim(),
        _ => answer,
    }
}

fn parsed(text: &str) -> Option<Found<'_>> {
    let text = text.trim();
    let value = serde_json::from_str(text).ok()?;
    Some(Found { text, value })
}

fn is_nested(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// A fenced block of a text.
struct Fence<'a> {
    body: &'a str,
    says_json: bool,
    /// Nothing stands before or behind it.
    is_all: bool,
}

/// The fenced blocks of a text. One that is never closed reaches to the end.
fn fences(text: &str) -> impl Iterator<Item = Fence<'_>> {
    let mut lines = Lines { text, at: 0 };
    std::iter::from_fn(move || {
        let (start, mark, info) = loop {
            let (start, line) = lines.next()?;
            if let Some((mark, info)) = opening(line) {
                break (start, mark, info);
            }
        };
        let begin = lines.at;
        let mut end = text.len();
        while let Some((at, line)) = lines.next() {
            if is_closing(line, mark) {
                end = at;
                break;
            }
        }
        let before = text.get(..start).unwrap_or_default();
        Some(Fence {
            body: text.get(begin..end).unwrap_or_default(),
            says_json: info.trim().to_ascii_lowercase().starts_with("json"),
            is_all: before.trim().is_empty() && lines.rest().trim().is_empty(),
        })
    })
}

/// Lines by where they begin.
struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let line = rest.split_inclusive('\n').next()?;
        self.at += line.len();
        Some((start, line.trim()))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// The mark of an opening fence, and what it says of its body.
fn opening(line: &str) -> Option<(&str, &str)> {
    let letter = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let info = line.trim_start_matches(letter);
    let mark = line.strip_suffix(info)?;
    // Three marks and text on one line are a span of code.
    (mark.len() >= 3 && !info.contains('`')).then_some((mark, info))
}

fn is_closing(line: &str, mark: &str) -> bool {
    let letter = mark.chars().next();
    line.starts_with(mark) && line.chars().all(|c| Some(c) == letter)
}

/// The outermost objects of a text; its outermost arrays where there are none: marks like `[1]`
/// are arrays too.
fn among_prose(text: &str) -> Vec<Found<'_>> {
    let mut objects = Vec::new();
    let mut arrays = Vec::new();
    let mut at = 0;
    let mut misses = MOST_WORK / (text.len() + 1) + 1;
    while let Some(offset) = text.get(at..).and_then(|rest| rest.find(['{', '['])) {
        at += offset;
        let rest = text.get(at..).unwrap_or_default();
        if !can_begin(rest) {
            at += 1;
            continue;
        }
        let Some(found) = leading(rest) else {
            if misses == 0 {
                break;
            }
            misses -= 1;
            at += 1;
            continue;
        };
        at += found.text.len();
        if found.value.is_object() {
            objects.push(found);
        } else {
            arrays.push(found);
        }
    }
    if objects.is_empty() { arrays } else { objects }
}

/// Beginnings that lead to no value may have so many bytes read in all: a text of nothing but
/// brackets would be read over and over.
const MOST_WORK: usize = 4 << 20;

/// Whether a text that begins with a bracket can begin with a value.
fn can_begin(text: &str) -> bool {
    let mut letters = text.chars();
    let bracket = letters.next();
    let first = letters.find(|letter| !letter.is_whitespace());
    match bracket {
        Some('{') => matches!(first, Some('"' | '}')),
        _ => matches!(
            first,
            Some('{' | '[' | ']' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n')
        ),
    }
}

/// The value that a text begins with.
fn leading(text: &str) -> Option<Found<'_>> {
    let mut json = serde_json::Deserializer::from_str(text).into_iter();
    let value = json.next()?.ok()?;
    let text = text.get(..json.byte_offset())?;
    Some(Found { text, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(answer: &str) -> Vec<&str> {
        values(answer).iter().map(|found| found.text).collect()
    }

    #[test]
    fn json_is_found_wherever_it_stands() {
        for (answer, found) in [
            (r#" {"a": 1.0}\n"#, vec![r#"{"a": 1.0}"#]),
            ("[1]", vec!["[1]"]),
            ("\"text\"", vec!["\"text\""]),
            (
                "Here:\n```json\n{\"a\": 1}\n```\nDone.",
                vec![r#"{"a": 1}"#],
            ),
            ("```\n{}\n```", vec!["{}"]),
            ("~~~JSON\r\n{}\r\n~~~", vec!["{}"]),
            ("1. So:\n   ````json5\n   {}\n   ````", vec!["{}"]),
            ("```json\n{\"a\": 1}", vec![r#"{"a": 1}"#]),
            ("It is ```{\"a\": 1}``` now", vec![r#"{"a": 1}"#]),
            ("It is `{\"a\": 1}` now", vec![r#"{"a": 1}"#]),
            (
                "See [1] and {x}: {\"a\": \"} ``` {\"} [2].",
                vec!["{\"a\": \"} ``` {\"}"],
            ),
            ("The list is [\"a\", \"b\"].", vec!["[\"a\", \"b\"]"]),
            ("```sql\nSELECT 1\n```\n```json\n{}\n```", vec!["{}"]),
            ("```sql\nSELECT 1\n```\nSo {}.", vec!["{}"]),
            ("```\n{}\n```\n```\n[]\n```", vec!["{}", "[]"]),
            ("```\n42\n```", vec![]),
            ("```json\n42\n```", vec!["42"]),
            ("{} or {\"a\": 1}", vec!["{}", "{\"a\": 1}"]),
            ("{\"a\": 1", vec![]),
            ("no JSON, [no] {json} \"at\" all", vec![]),
            ("{'a': 1}", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(texts(answer), found, "{answer}");
        }
    }

    #[test]
    fn one_fence_around_the_whole_is_taken_off() {
        for (answer, bare) in [
            ("{}", "{}"),
            ("\n```json\n{}\n```\n", "{}"),
            ("```json\n{}\n```\nDone.", "```json\n{}\n```\nDone."),
            ("So:\n```\n{}\n```", "So:\n```\n{}\n```"),
            ("```\n{}\n```\n```\n{}\n```", "```\n{}\n```\n```\n{}\n```"),
        ] {
            assert_eq!(unfenced(answer), bare, "{answer}");
        }
    }

    #[test]
    fn a_long_answer_of_brackets_is_soon_looked_through() {
        let text = [
            "[".repeat(200_000),
            "{\"a\":".repeat(50_000),
            "[\"".repeat(100_000),
        ]
        .concat();

        assert!(texts(&text).is_empty());
    }
}
