//! A request of which only what is new is read.

use bytes::Bytes;

use super::messages::{LIST, entry};
use super::request::{ChatRequest, Sent};
use crate::conversation::known::{KnownOf, RawHash};
use crate::conversation::text::Raw;
use crate::openai::Body;
use crate::openai::content::Place;
use crate::openai::messages::Entry;
use crate::openai::outline::Outline;

impl Body for ChatRequest {
    const LIST: Option<&str> = Some(LIST);

    fn of_known(body: &Bytes, list: Outline, known: &KnownOf) -> Option<Self> {
        let mut request: Self = serde_json::from_slice(&list.without(body)).ok()?;
        let hashes = list.elements.iter();
        let hashes = hashes.map(|element| known.hash(body.get(element.clone())?));
        let hashes: Vec<Option<RawHash>> = hashes.collect();
        let facts = known.facts_of(&hashes);
        let sent_before = list.elements.iter().zip(&facts);
        let sent_before = sent_before
            .filter_map(|(element, facts)| Some((body.get(element.clone())?, (*facts)?)));
        // Copied: the body holds more, and lies where the next request of its connection is to be read.
        let mut texts = Raw::of(sent_before, text).texts();
        request.messages.reserve_exact(list.elements.len());
        for ((element, hash), facts) in list.elements.into_iter().zip(hashes).zip(facts) {
            request.messages.push(match facts {
                Some(facts) => Sent::Known(facts.role, texts.next()?),
                None => Sent::New(serde_json::from_slice(body.get(element)?).ok()?, hash),
            });
        }
        request.known = Some(known.clone());
        Some(request)
    }
}

/// The text of a message that was read before.
fn text(json: &[u8]) -> String {
    let place = Place {
        list: LIST,
        index: 0,
    };
    let message = serde_json::from_slice(json).ok();
    match message.and_then(|message| entry(message, place).ok()) {
        Some(Entry::Said(message)) => message.text.into_string(),
        Some(Entry::Instructions(..)) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;

    use super::super::messages::split;
    use super::*;
    use crate::conversation;
    use crate::conversation::fingerprint::digest;
    use crate::conversation::known::Known;
    use crate::conversation::salt::Salt;
    use crate::ids::{Digest, Tenant};
    use crate::openai::Error;
    use crate::openai::messages::Split;

    fn salt() -> Salt {
        Salt::fixed([7; 32])
    }

    fn known_of(all: &Arc<Known>, tenant: u8) -> KnownOf {
        KnownOf::new(Arc::clone(all), &Tenant([tenant; 32]))
    }

    fn known() -> KnownOf {
        known_of(&Arc::new(Known::new(&salt())), 1)
    }

    fn read(body: impl AsRef<[u8]>, known: &KnownOf) -> Option<ChatRequest> {
        let body = Bytes::copy_from_slice(body.as_ref());
        let list = Outline::of(&body, ChatRequest::LIST, |_| {})?;
        ChatRequest::of_known(&body, list, known)
    }

    fn taken_apart(request: ChatRequest) -> Result<Split, Error> {
        split(request.messages, request.known.as_ref())
    }

    fn how_many_are_known(body: impl AsRef<[u8]>, known: &KnownOf) -> Option<usize> {
        let request = read(body, known)?;
        let messages = request.messages.iter();
        let known = messages.filter(|message| matches!(message, Sent::Known(..)));
        Some(known.count())
    }

    /// All that a turn is made of.
    #[derive(Debug, PartialEq)]
    struct Seen {
        fields: String,
        said: Result<Said, Error>,
    }

    #[derive(Debug, PartialEq)]
    struct Said {
        instructions: Option<String>,
        digests: Vec<Digest>,
        tokens: u64,
        messages: [Vec<conversation::Message>; 2],
    }

    fn seen(request: ChatRequest) -> Seen {
        let fields = format!("{:?}", request.fields);
        let said = taken_apart(request).map(|split| {
            let messages = split.history.iter().chain(&split.prompt);
            Said {
                digests: messages.map(|message| digest(&salt(), message)).collect(),
                tokens: split.tokens(None),
                instructions: split.instructions,
                messages: [split.history, split.prompt],
            }
        });
        Seen { fields, said }
    }

    /// That the body says the same whether all of it is read or what is new; how many of its messages were
    /// known in the end, if that can be told.
    fn check(body: impl AsRef<[u8]>) -> Option<usize> {
        let body = body.as_ref();
        let whole = serde_json::from_slice(body).ok().map(seen);
        let known = known();
        for _ in 0..2 {
            let request = read(body, &known)?;
            assert_eq!(Some(seen(request)), whole, "{body:?}");
        }
        how_many_are_known(body, &known)
    }

    fn long(text: &str) -> String {
        text.repeat(300 / text.len().max(1) + 1)
    }

    fn message(role: &str, text: &str) -> String {
        json!({"role": role, "content": text}).to_string()
    }

    #[test]
    fn what_was_sent_before_is_not_read_again() {
        let known = known();
        let said = [
            message("system", &long("Be brief. ")),
            message("user", &long("How \"much\"?\n")),
            message("assistant", &long("caf\u{e9} ")),
            message("user", &long("And now? ")),
        ];
        let body = |messages: &[String]| {
            let messages = messages.join(", ");
            format!(r#"{{"model": "m", "messages": [{messages}], "stream": false}}"#)
        };
        let first = body(&said[..2]);
        let whole = body(&said);

        assert_eq!(how_many_are_known(&first, &known), Some(0));
        taken_apart(read(&first, &known).unwrap()).unwrap();

        // Instructions are read each time.
        assert_eq!(how_many_are_known(&first, &known), Some(1));
        assert_eq!(how_many_are_known(&whole, &known), Some(1));
        let split = taken_apart(read(&whole, &known).unwrap()).unwrap();
        assert_eq!(&*split.history[0].text, long("How \"much\"?\n"));
        assert_eq!(how_many_are_known(&whole, &known), Some(3));
    }

    #[test]
    fn what_one_tenant_sent_is_not_known_of_another() {
        let all = Arc::new(Known::new(&salt()));
        let body = format!(r#"{{"messages": [{}]}}"#, message("user", &long("a")));

        taken_apart(read(&body, &known_of(&all, 1)).unwrap()).unwrap();

        let known = [1, 2].map(|tenant| how_many_are_known(&body, &known_of(&all, tenant)));
        assert_eq!(known, [Some(1), Some(0)]);
    }

    #[test]
    fn what_is_more_than_text_is_read_each_time() {
        let text = long("a");
        let call = json!({"role": "assistant", "content": text, "tool_calls": [
            {"id": "c", "function": {"name": "f", "arguments": "{}"}}]});
        let result = json!({"role": "tool", "tool_call_id": "c", "content": text});
        let short = json!({"role": "user", "content": "Hi"});
        for message in [call, result, short] {
            let body = format!(
                r#"{{"messages": [{message}, {}]}}"#,
                self::message("user", &text)
            );

            assert_eq!(check(&body), Some(1), "{body}");
        }
    }

    #[test]
    fn what_cannot_be_told_at_a_glance_is_read_whole() {
        let said = message("user", &long("a"));
        for body in [
            String::new(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"messages": null}"#.to_owned(),
            r#"{"messages": []}"#.to_owned(),
            r#"{"messages": {}}"#.to_owned(),
            format!(r#"{{"messages": [{said}], "messages": [{said}]}}"#),
            format!(r#"{{"messages": [{said}], "mess\u0061ges": []}}"#),
            format!(r#"{{"messages": [{said},]}}"#),
            format!(r#"{{"messages": [,{said}]}}"#),
            format!(r#"{{"messages": [{said} {said}]}}"#),
            format!(r#"{{"messages": [{said}}}"#),
            format!(r#"{{"messages": [{said}]"#),
            format!(r#"{{"messages": [{said}]}} x"#),
            format!(r#"{{"messages": [{said}], }}"#),
            format!(r#"[{{"messages": [{said}]}}]"#),
        ] {
            assert_eq!(check(&body), None, "{body}");
        }
    }

    /// Of JSON: with escapes that need not be, or without.
    fn string() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            "[a-c ]{0,3}",
            "[\"\\\\\n{}\\[\\],:é\u{301}<]{0,6}",
            ".{0,4}"
        ];
        (text, any::<bool>()).prop_map(|(text, escaped)| {
            let json = json!(long(&text)).to_string();
            if escaped {
                json.replace('a', r"\u0061")
            } else {
                json
            }
        })
    }

    fn any_message() -> impl Strategy<Value = String> {
        let role = prop::sample::select(vec!["user", "assistant", "system", "tool"]);
        (role, string(), 0..5).prop_map(|(role, text, shape)| match shape {
            0 => format!(r#"{{"role":"{role}","content":{text}}}"#),
            1 => format!(r#"{{ "content" : {text} , "role" : "{role}" }}"#),
            2 => format!(r#"{{"role":"{role}","content":[{{"type":"text","text":{text}}}]}}"#),
            3 => format!(r#"{{"role":"{role}","content":null,"content":{text},"x":{{"y":[]}}}}"#),
            _ => format!(r#"{{"role":"{role}","content":{text},"refusal":"no","name":null}}"#),
        })
    }

    fn body() -> impl Strategy<Value = String> {
        let messages = prop::collection::vec(any_message(), 1..6);
        let space = prop::sample::select(vec!["", " ", "\n\t"]);
        (messages, space, any::<bool>()).prop_map(|(messages, space, is_last)| {
            let list = messages.join(&format!("{space},{space}"));
            let list = format!(r#""messages"{space}:{space}[{space}{list}{space}]"#);
            let other = r#""model":"a,]}[{","metadata":{"messages":["x"]}"#;
            if is_last {
                format!("{space}{{{other},{list}}}{space}")
            } else {
                format!("{{{list},{other}}}")
            }
        })
    }

    /// One character of which is another.
    fn spoilt() -> impl Strategy<Value = Vec<u8>> {
        let pieces = [
            "",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "\"",
            "\\",
            " ",
            "1",
            r#""messages":[]"#,
        ];
        let pieces = pieces.map(str::as_bytes).into_iter().chain([&b"\xff"[..]]);
        let piece = prop::sample::select(pieces.collect::<Vec<_>>());
        // Most of a body is text: where it has something else is more telling.
        let place = (any::<prop::sample::Index>(), any::<bool>());
        (body(), place, piece).prop_map(|(body, (at, is_text), piece)| {
            let places = body.char_indices();
            let places = places.filter(|(_, c)| is_text || "[]{},:\"\\".contains(*c));
            let places: Vec<(usize, char)> = places.collect();
            let (at, c) = places[at.index(places.len())];
            let (head, tail) = (&body[..at], &body[at + c.len_utf8()..]);
            [head.as_bytes(), piece, tail.as_bytes()].concat()
        })
    }

    proptest! {
        #[test]
        fn a_body_says_the_same_whatever_is_known_of_it(body in body()) {
            prop_assert!(check(&body).is_some(), "{}", body);
        }

        #[test]
        fn a_spoilt_body_is_not_taken_for_another(body in spoilt()) {
            check(&body);
        }
    }
}
