//! Every failure on every route is told in the one envelope.

use http::StatusCode;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Reply, Setup, asking, prompt, request};

fn assert_envelope(reply: &Reply) {
    let error = reply.body["error"].as_object().unwrap();
    let keys: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{}", reply.text);
    assert!(error["message"].is_string() && error["type"].is_string() && error["code"].is_string());
    assert!(error["param"].is_string() || error["param"].is_null());
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(!reply.header("x-request-id").is_empty());
}

/// Method, path, headers, body, and the status and code that they get.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    u16,
    &'static str,
);

const CHAT: &str = "/v1/chat/completions";
const JSON: (&str, &str) = ("content-type", "application/json");
const HELLO: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hello"}]}"#;
const HALF_A_PAIR: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "\ud800"}]}"#;

#[rustfmt::skip]
const ROWS: [Row; 23] = [
    ("GET", "/", &[], "", 404, "unknown_route"),
    ("GET", "/v1", &[], "", 404, "unknown_route"),
    ("GET", "/v1/nothing", &[], "", 404, "unknown_route"),
    ("POST", "/openai/v1/nothing", &[], "", 404, "unknown_route"),
    ("GET", "/v1/models/", &[], "", 404, "unknown_route"),
    ("GET", "/v1/models/%ff", &[], "", 400, "invalid_value"),
    ("GET", CHAT, &[], "", 405, "method_not_allowed"),
    ("OPTIONS", CHAT, &[], "", 405, "method_not_allowed"),
    ("PUT", "/livez", &[], "", 405, "method_not_allowed"),
    ("WEIRD", "/v1/models", &[], "", 405, "method_not_allowed"),
    ("POST", CHAT, &[], HELLO, 415, "unsupported_media_type"),
    ("POST", CHAT, &[("content-type", "text/plain")], HELLO, 415, "unsupported_media_type"),
    ("POST", CHAT, &[("content-type", "application/jsonx")], HELLO, 415, "unsupported_media_type"),
    ("POST", CHAT, &[JSON, ("content-encoding", "gzip")], HELLO, 415, "unsupported_media_type"),
    ("POST", CHAT, &[JSON], "", 400, "invalid_json"),
    ("POST", CHAT, &[JSON], "{", 400, "invalid_json"),
    ("POST", CHAT, &[JSON], "[1] x", 400, "invalid_value"),
    ("POST", CHAT, &[JSON], "\u{feff}{}", 400, "invalid_json"),
    ("POST", CHAT, &[JSON], HALF_A_PAIR, 400, "invalid_json"),
    ("POST", CHAT, &[JSON], r#"{"model": 7}"#, 400, "invalid_value"),
    ("POST", CHAT, &[JSON, ("x-request-timeout", "soon")], HELLO, 400, "invalid_value"),
    ("POST", CHAT, &[JSON, ("idempotency-key", "a\tb")], HELLO, 400, "invalid_value"),
    ("POST", CHAT, &[JSON, ("x-conversation-id", "a"), ("x-conversation-id", "b")], HELLO, 400, "invalid_value"),
];

#[tokio::test(start_paused = true)]
async fn what_cannot_be_routed_or_read_is_told_in_the_envelope() {
    let proxy = Proxy::start(Setup::default());

    for (method, path, headers, body, status, code) in ROWS {
        let reply = proxy.ask(request(method, path, headers, body)).await;

        let told = (reply.status.as_u16(), reply.code());
        assert_eq!(told, (status, code), "{method} {path} {headers:?} {body}");
        assert_envelope(&reply);
        assert_eq!(
            status == 405,
            reply.headers.contains_key("allow"),
            "{method} {path}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_told_in_the_envelope() {
    let proxy = Proxy::start(Setup::default());
    let large = format!("{{\"model\": \"{}\"}}", "x".repeat(11 << 20));

    let reply = proxy.ask(request("POST", CHAT, &[JSON], &large)).await;

    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(reply.code(), "request_too_large");
    assert_envelope(&reply);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_value_is_named() {
    let proxy = Proxy::start(Setup::default());
    let param = async |change: &dyn Fn(&mut Value)| {
        let mut body = asking("hello");
        change(&mut body);
        let reply = proxy.post_json("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        reply.body["error"]["param"].as_str().map(str::to_owned)
    };

    assert_eq!(
        param(&|body| body["model"] = json!(7)).await.as_deref(),
        Some("model")
    );
    assert_eq!(
        param(&|body| body["n"] = json!(9)).await.as_deref(),
        Some("n")
    );
}

#[tokio::test(start_paused = true)]
async fn how_runs_end_is_told_in_the_envelope() {
    let proxy = Proxy::start(Setup::default());
    let cases = [
        (prompt::FAILS, 502, "run_failed", "false"),
        (prompt::REFUSED, 400, "upstream_refused", ""),
        (prompt::KEY_REFUSED, 401, "invalid_api_key", ""),
    ];

    for (text, status, code, should_retry) in cases {
        let reply = proxy.chat(text).await;

        assert_eq!((reply.status.as_u16(), reply.code()), (status, code));
        assert_eq!(reply.header("x-should-retry"), should_retry);
        assert!(!reply.header("x-conversation-id").is_empty());
        assert_envelope(&reply);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_body_is_read_as_a_short_one_is() {
    let proxy = Proxy::start(Setup::default());
    let long = "long ".repeat(100_000);

    let reply = proxy.chat(&long).await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(proxy.sandbox.posts().len(), 1);
}
