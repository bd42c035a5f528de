//! An answer's text on its way into server-sent events, and out of them again.

use std::cell::RefCell;
use std::time::Duration;

use axum::body::Body;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use serde_json::{Value, json};

use super::proxy::Proxy;

thread_local! {
    static PROXY: RefCell<Proxy> = RefCell::new(Proxy::new(|| Access::Sandbox));
}

/// The input is a digit, in how many steps the text grows; on the rest of its line a stop
/// sequence; then the text.
pub fn stream(input: &[u8]) {
    let Some((first, rest)) = str::from_utf8(input).ok().and_then(|input| {
        let (line, text) = input.split_once('\n')?;
        Some((line, text))
    }) else {
        return;
    };
    let digits = first.bytes().take_while(u8::is_ascii_digit).take(1).count();
    let (growth, stop) = first.split_at(digits);
    let behaviour = Behaviour {
        growth: growth.parse().unwrap_or(0),
        ..Behaviour::says(rest, Duration::from_secs(20))
    };

    let reply =
        PROXY.with_borrow_mut(|proxy| proxy.ask_scripted(Script::always(behaviour), request(stop)));

    if !reply.status.is_success() {
        reply.assert_envelope();
        return;
    }
    let frames = decoded(&reply.body);
    if reply.broken {
        let last = frames.last().map(String::as_str).unwrap_or_default();
        let last: Value = serde_json::from_str(last).unwrap_or_default();
        assert!(last["error"]["code"].is_string(), "broken off in silence");
        return;
    }
    let (done, chunks) = frames.split_last().expect("a stream has an end");
    assert_eq!(done, "[DONE]");
    let chunks = chunks
        .iter()
        .map(|chunk| serde_json::from_str::<Value>(chunk).expect("each event is one JSON value"));
    let text: String = chunks
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    let whole = match rest.find(stop) {
        Some(end) if !stop.is_empty() => rest.get(..end).unwrap_or_default(),
        _ => rest,
    };
    assert_eq!(text.trim(), whole.trim());
}

fn request(stop: &str) -> Request<Body> {
    let mut body = json!({
        "model": "m",
        "stream": true,
        "messages": [{"role": "user", "content": "say it"}],
    });
    if !stop.is_empty() {
        body["stop"] = json!(stop);
    }
    Request::post("/v1/chat/completions")
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .expect("these are headers")
}

/// As the standard has it: lines end in LF, CR or CRLF; an empty line ends an event, and each of
/// ours has exactly one line.
fn decoded(bytes: &[u8]) -> Vec<String> {
    let text = str::from_utf8(bytes).expect("events are UTF-8");
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut lines = 0;
    for line in text.split_terminator('\n') {
        match line.strip_prefix("data: ") {
            Some(data) => {
                events.push(data.to_owned());
                lines += 1;
            }
            None => {
                assert_eq!((line, lines), ("", 1), "an event is not one line");
                lines = 0;
            }
        }
    }
    assert_eq!(lines, 0, "an event without its end");
    events
}
