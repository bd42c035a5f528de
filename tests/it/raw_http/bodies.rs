//! Bodies that are no JSON, hardly, or far too much of it: one answer each, in the envelope.

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{listening, statuses};
use crate::proxy::read_out;

/// A request whose fields beside the message are these.
fn with(fields: &str) -> Vec<u8> {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{fields}}}"#).into()
}

fn saying(content: &[u8]) -> Vec<u8> {
    let (before, after) = (
        &br#"{"model":"m","messages":[{"role":"user","content":""#[..],
        &br#""}]}"#[..],
    );
    [before, content, after].concat()
}

/// Name, body, and the code of the refusal; empty where it is answered.
type Row = (&'static str, Vec<u8>, &'static str);

const SYNTAX: &str = "invalid_json";
const VALUE: &str = "invalid_value";

fn many(text: &str, times: usize) -> String {
    text.repeat(times)
}

/// No JSON, or not alone.
fn no_json() -> Vec<Row> {
    vec![
        ("plain", saying(b"hi"), ""),
        ("nothing", Vec::new(), SYNTAX),
        ("white space", b" \r\n\t ".to_vec(), SYNTAX),
        ("half", saying(b"hi")[..20].to_vec(), SYNTAX),
        (
            "more after it",
            [saying(b"hi"), b"x".to_vec()].concat(),
            SYNTAX,
        ),
        ("two of them", saying(b"hi").repeat(2), SYNTAX),
    ]
}

/// Letters that are none.
fn letters() -> Vec<Row> {
    vec![
        (
            "mark of byte order",
            [b"\xef\xbb\xbf".to_vec(), saying(b"hi")].concat(),
            SYNTAX,
        ),
        (
            "utf-16",
            saying(b"hi").iter().flat_map(|byte| [*byte, 0]).collect(),
            SYNTAX,
        ),
        ("no utf-8", saying(b"\xff\xfe"), SYNTAX),
        ("overlong utf-8", saying(b"\xc0\xaf"), SYNTAX),
        ("surrogate in utf-8", saying(b"\xed\xa0\x80"), SYNTAX),
        ("half a letter", saying(b"\xe2\x82"), SYNTAX),
        ("lone surrogate", saying(br"\ud800"), SYNTAX),
        (
            "surrogates in the wrong order",
            saying(br"\udc00\ud800"),
            SYNTAX,
        ),
        ("pair of surrogates", saying(br"\ud83d\ude00"), ""),
        ("nul", saying(b"a\0b"), SYNTAX),
        ("escaped nul", saying(br"a\u0000b"), ""),
        ("line end in a text", saying(b"a\nb"), SYNTAX),
        ("unknown escape", saying(br"\x41"), SYNTAX),
    ]
}

/// Depths, numbers and keys.
fn numbers() -> Vec<Row> {
    vec![
        (
            "deep arrays",
            with(&format!(",\"x\":{}", many("[", 100_000))),
            SYNTAX,
        ),
        (
            "deep arrays that end",
            with(&format!(",\"x\":{}{}", many("[", 500), many("]", 500))),
            SYNTAX,
        ),
        (
            "deep objects",
            with(&format!(",\"x\":{}", many("{\"a\":", 100_000))),
            SYNTAX,
        ),
        ("number beyond all", with(",\"temperature\":1e999"), SYNTAX),
        (
            "number of many digits",
            with(&format!(",\"seed\":{}", many("9", 100_000))),
            SYNTAX,
        ),
        ("no number", with(",\"temperature\":NaN"), SYNTAX),
        ("infinity", with(",\"temperature\":Infinity"), SYNTAX),
        ("number in hex", with(",\"seed\":0x10"), SYNTAX),
        ("number with a zero before", with(",\"seed\":01"), SYNTAX),
        ("comment", with("/* x */"), SYNTAX),
        ("comma at the end", with(","), SYNTAX),
        ("single quotes", b"{'model':'m'}".to_vec(), SYNTAX),
        ("key twice", with(",\"model\":\"n\""), ""),
        ("unknown key twice", with(",\"x\":1,\"x\":2"), ""),
    ]
}

/// JSON of another shape, or of too much.
fn shapes() -> Vec<Row> {
    vec![
        ("array", b"[]".to_vec(), VALUE),
        ("null", b"null".to_vec(), VALUE),
        ("text", b"\"hi\"".to_vec(), VALUE),
        ("number", b"7".to_vec(), VALUE),
        ("empty object", b"{}".to_vec(), VALUE),
        ("n beyond all bounds", with(",\"n\":1000000"), VALUE),
        (
            "tokens beyond all bounds",
            with(",\"max_tokens\":1e300"),
            VALUE,
        ),
        (
            "a hundred thousand stops",
            with(&format!(",\"stop\":[{}\"x\"]", many("\"x\",", 100_000))),
            VALUE,
        ),
        ("long word", saying(many("x", 1 << 20).as_bytes()), ""),
        (
            "a hundred thousand tools",
            with(&format!(",\"tools\":[{}{{}}]", many("{},", 100_000))),
            VALUE,
        ),
        (
            "too much",
            saying(many("x", 11 << 20).as_bytes()),
            "request_too_large",
        ),
    ]
}

#[tokio::test]
async fn each_body_is_answered_once_and_in_the_envelope() {
    let proxy = listening().await;

    let mut wrong = Vec::new();
    for (name, body, expected) in [no_json(), letters(), numbers(), shapes()].concat() {
        let mut socket = proxy.connect().await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        // What is too large is refused before it is sent.
        let _ = socket.write_all(&body).await;
        let answer = read_out(&mut socket).await;
        let text = String::from_utf8(answer.clone()).unwrap();
        let json = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let json: Value = serde_json::from_str(json).unwrap_or_default();
        let code = json["error"]["code"].as_str().unwrap_or_default();
        let is_answered = statuses(&answer) == [200];
        if code != expected || is_answered != expected.is_empty() {
            wrong.push(format!("{name}: {text}"));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    proxy.stop().await;
}

#[tokio::test]
async fn a_hundred_thousand_messages_are_one_history() {
    let proxy = listening().await;
    let pair = r#"{"role":"user","content":"a"},{"role":"assistant","content":"b"},"#;
    let messages = pair.repeat(50_000);
    let body = format!(r#"{{"model":"m","messages":[{messages}{{"role":"user","content":"c"}}]}}"#);
    let mut socket = proxy.connect().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();

    let answer = read_out(&mut socket).await;

    assert_eq!(statuses(&answer), [200]);
    proxy.stop().await;
}
