//! The text of a message as identity sees it: what clients change on the way does not count.

use std::borrow::Cow;

use memchr::memchr2;
use serde_json::Value;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::Role;

/// Blocks that chat programs put around a model's reasoning and may or may not send back.
const REASONING: [(&str, &str); 2] = [
    ("<think>", "</think>"),
    ("<details type=\"reasoning\"", "</details>"),
];

/// Unicode NFC, line ends as `\n`, no outer white space, no reasoning blocks in assistants' text.
pub fn text(role: Role, text: &str) -> Cow<'_, str> {
    let mut canonical = Cow::Borrowed(text);
    // Most texts have neither, which is seen in one pass.
    if memchr2(b'<', b'\r', text.as_bytes()).is_some() {
        if role == Role::Assistant && REASONING.iter().any(|(open, _)| text.contains(open)) {
            canonical = Cow::Owned(without_reasoning(text));
        }
        if canonical.contains('\r') {
            canonical = Cow::Owned(canonical.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
    if !is_nfc(&canonical) {
        canonical = Cow::Owned(canonical.nfc().collect());
    }
    match canonical {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// A tool call's arguments: compared as JSON where they are JSON.
pub fn arguments(arguments: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            value.sort_all_objects();
            Cow::Owned(value.to_string())
        }
        Err(_) => Cow::Borrowed(arguments.trim()),
    }
}

/// For comparing a text that we posted with what the upstream shows of it, which may be trimmed
/// or wrapped anew: every run of white space is one space.
pub fn squashed(text: &str) -> Cow<'_, str> {
    if is_squashed(text) {
        return Cow::Borrowed(text);
    }
    let mut squashed = String::with_capacity(text.len());
    let mut push = |word: &str| {
        if !squashed.is_empty() {
            squashed.push(' ');
        }
        squashed.push_str(word);
    };
    // Most texts have no other white space, and it is found faster.
    if text.is_ascii() && !text.contains('\u{b}') {
        text.split_ascii_whitespace().for_each(&mut push);
        return Cow::Owned(squashed);
    }
    text.split_whitespace().for_each(&mut push);
    Cow::Owned(if is_nfc(&squashed) {
        squashed
    } else {
        squashed.nfc().collect()
    })
}

/// Whether it is seen at a glance that squashing would leave the text as it is. All of it is looked at
/// whatever is found, so that compilers look at many bytes at once.
fn is_squashed(text: &str) -> bool {
    let bytes = text.as_bytes();
    let odd = |byte: &u8| !(b' '..0x80).contains(byte);
    let is_plain = !bytes.iter().fold(false, |any, byte| any | odd(byte));
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let doubled = pairs.fold(false, |any, (a, b)| any | ((*a == b' ') & (*b == b' ')));
    let at_an_end = [bytes.first(), bytes.last()].contains(&Some(&b' '));
    is_plain && !doubled && !at_an_end
}

/// Whether it is known at a glance that NFC would leave the text as it is.
fn is_nfc(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// Each pattern is looked for once per block, and never again once no whole block of it is left, so
/// that the work is linear whatever the text.
fn without_reasoning(text: &str) -> String {
    let block = |from: usize, (open, close): (&str, &str)| {
        let start = from + text.get(from..)?.find(open)?;
        let end = start + text.get(start..)?.find(close)?;
        Some((start, end + close.len()))
    };
    let mut next = REASONING.map(|pattern| block(0, pattern));
    let mut kept = String::with_capacity(text.len());
    let mut cursor = 0;
    while let Some((start, end)) = next.iter().flatten().min().copied() {
        kept.push_str(text.get(cursor..start).unwrap_or_default());
        cursor = end;
        for (next, pattern) in next.iter_mut().zip(REASONING) {
            if next.is_some_and(|(start, _)| start < cursor) {
                *next = block(cursor, pattern);
            }
        }
    }
    kept.push_str(text.get(cursor..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_change_on_the_way_does_not_count() {
        for (sent, same) in [
            (" hello \r\n", "hello"),
            ("a\rb\r\nc", "a\nb\nc"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("<think>hm, well</think>\n\nYes.", "Yes."),
            (
                "<details type=\"reasoning\" done=\"true\">\nhm\n</details>\nYes.",
                "Yes.",
            ),
            ("<think>one</think>a<think>two</think>b", "ab"),
        ] {
            assert_eq!(text(Role::Assistant, sent), same);
        }
    }

    #[test]
    fn words_that_only_look_like_reasoning_stay() {
        assert_eq!(text(Role::User, "<think>x</think>"), "<think>x</think>");
        assert_eq!(
            text(Role::Assistant, "<think> is a tag"),
            "<think> is a tag"
        );
        assert_eq!(
            text(Role::Assistant, "inner  spaces\n\nstay"),
            "inner  spaces\n\nstay"
        );
    }

    #[test]
    fn arguments_are_compared_as_json() {
        assert_eq!(
            arguments("{ \"b\": 1, \"a\": {\"d\": 2, \"c\": 3} }"),
            arguments("{\"a\":{\"c\":3,\"d\":2},\"b\":1}"),
        );
        assert_eq!(arguments(" not json "), "not json");
    }

    proptest! {
        #[test]
        fn every_run_of_white_space_is_one_space(text in "(\\PC|[a-c \t\n\r\u{b}\u{c}\u{1c}\u{a0}]){0,30}") {
            let words: Vec<&str> = text.split_whitespace().collect();

            prop_assert_eq!(squashed(&text), words.join(" ").nfc().collect::<String>());
        }
    }

    #[test]
    fn wrapping_and_trimming_do_not_hide_a_text() {
        assert_eq!(squashed("  a\n b\t\tc "), squashed("a b c"));
        assert_ne!(squashed("ab c"), squashed("a bc"));
    }
}
