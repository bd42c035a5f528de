//! Answers as streams: begun early, kept alive, and never ended in silence.

use chaturdata_proxy::config::KeepAlive;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::proxy::{Proxy, Setup, Streamed, asking, frames, prompt, read_out, request};

fn keeping_alive(keep_alive: KeepAlive) -> Proxy {
    let mut setup = Setup::default();
    setup.config.stream.keep_alive = keep_alive;
    Proxy::start(setup)
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_the_role_and_ends_with_done() {
    let proxy = Proxy::start(Setup::default());

    let streamed = proxy.stream("hello").await;

    let first: Value = serde_json::from_str(&streamed.frames[0]).unwrap();
    assert_eq!(
        first["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(streamed.text(), "hello");
    assert_eq!(streamed.frames.last().unwrap(), "[DONE]");
    assert!(!streamed.broken);
    let header = |name: &str| streamed.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    assert_eq!(header("x-conversation-decision"), "created");
    assert_eq!(header("x-usage-source"), "estimated");
    assert!(streamed.headers.contains_key("x-request-id"));
    assert!(!streamed.headers.contains_key("content-length"));
}

#[tokio::test(start_paused = true)]
async fn one_id_and_one_time_are_in_all_chunks() {
    let proxy = Proxy::start(Setup::default());

    let streamed = proxy.stream(prompt::GROWS).await;

    let chunks: Vec<Value> = streamed
        .frames
        .iter()
        .filter_map(|frame| serde_json::from_str(frame).ok())
        .collect();
    assert!(chunks.len() > 4);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["created"] == chunks[0]["created"])
    );
    assert_eq!(streamed.text(), "one two");
}

#[tokio::test(start_paused = true)]
async fn a_silent_run_is_kept_alive_as_configured() {
    let silence = |frame: &String| {
        frame == ": keep-alive"
            || serde_json::from_str::<Value>(frame).is_ok_and(|chunk| {
                chunk["choices"][0]["delta"] == json!({})
                    && chunk["choices"][0]["finish_reason"].is_null()
            })
    };

    // Nothing for 22 s between two pieces of text; something at least every 10 s.
    for (kind, least) in [
        (KeepAlive::Chunk, 2),
        (KeepAlive::Comment, 2),
        (KeepAlive::Off, 0),
    ] {
        let streamed = keeping_alive(kind).stream(prompt::GROWS).await;
        let kept: Vec<&String> = streamed
            .frames
            .iter()
            .filter(|frame| silence(frame))
            .collect();

        assert!(kept.len() >= least, "{kind:?}: {kept:?}");
        assert_eq!(
            kept.iter().any(|frame| *frame == ": keep-alive"),
            kind == KeepAlive::Comment
        );
        assert_eq!(kept.is_empty(), kind == KeepAlive::Off);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_the_stream_begins_is_a_status() {
    let proxy = Proxy::start(Setup::default());

    let response = proxy.begin_stream(prompt::REFUSED).await;

    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_in_time_and_a_later_refusal_is_a_frame() {
    let proxy = Proxy::start(Setup::default());
    let start = Instant::now();

    let response = proxy.begin_stream(prompt::REFUSED_LATE).await;
    let begun = start.elapsed();
    let streamed = Streamed::of(response).await;

    assert_eq!(begun.as_secs(), 5);
    assert_eq!(streamed.error()["code"], "upstream_refused");
    assert!(streamed.broken);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_halfway_ends_in_an_error_frame_and_a_broken_body() {
    let proxy = Proxy::start(Setup::default());

    let streamed = proxy.stream(prompt::FAILS_HALFWAY).await;

    assert_eq!(streamed.text(), "half");
    assert_eq!(streamed.error()["code"], "run_failed");
    assert!(streamed.broken);
    assert!(!streamed.frames.iter().any(|frame| frame == "[DONE]"));
}

#[tokio::test(start_paused = true)]
async fn usage_is_one_more_chunk_where_it_is_asked_for() {
    let proxy = Proxy::start(Setup::default());
    let mut body = asking("hello");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let headers = [("content-type", "application/json")];

    let response = proxy
        .send(request(
            "POST",
            "/v1/chat/completions",
            &headers,
            &body.to_string(),
        ))
        .await;
    let streamed = Streamed::of(response).await;

    let last_but_one = &streamed.frames[streamed.frames.len() - 2];
    let chunk: Value = serde_json::from_str(last_but_one).unwrap();
    assert_eq!(chunk["choices"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_is_hung_up_on() {
    let proxy = Proxy::start(Setup::default());

    let mut body = proxy.begin_stream(prompt::SILENT).await.into_body();
    body.frame().await.unwrap().unwrap();
    let during = proxy.metrics();
    drop(body);
    let after = proxy.metrics();
    let again = proxy.begin_stream(prompt::SILENT).await;

    assert!(during.contains("waiting_callers 1\n"));
    assert!(after.contains("waiting_callers 0\n"));
    assert_eq!(again.headers()["x-conversation-decision"], "attached");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_to_its_end_is_delivered() {
    let proxy = Proxy::start(Setup::default());

    proxy.stream("hello").await;
    let again = proxy.stream("hello").await;

    assert_eq!(again.headers["x-conversation-decision"], "created");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_within_a_stream_leaves_the_answer_owed() {
    let proxy = Proxy::start(Setup::default());
    let mut body = asking(prompt::SILENT);
    body["stream"] = json!(true);
    let headers = [
        ("content-type", "application/json"),
        ("x-request-timeout", "30"),
    ];

    let response = proxy
        .send(request(
            "POST",
            "/v1/chat/completions",
            &headers,
            &body.to_string(),
        ))
        .await;
    let streamed = Streamed::of(response).await;
    let again = proxy
        .send(request(
            "POST",
            "/v1/chat/completions",
            &headers,
            &body.to_string(),
        ))
        .await;

    assert_eq!(streamed.error()["code"], "run_timeout");
    assert_eq!(again.headers()["x-conversation-decision"], "attached");
}

fn over_the_wire(version: &str, text: &str) -> String {
    let mut body = asking(text);
    body["stream"] = json!(true);
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The data of a chunked body, and whether its last chunk came.
fn unchunked(response: &[u8]) -> (String, bool) {
    let text = str::from_utf8(response).unwrap();
    let (_, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let mut data = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (data, true);
        }
        data.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    (data, false)
}

#[tokio::test]
async fn a_failed_stream_is_broken_off_only_after_its_error_frame() {
    let proxy = Proxy::start(Setup::quick()).listening().await;

    let response = proxy
        .raw(over_the_wire("1.1", prompt::FAILS_HALFWAY).as_bytes())
        .await;

    let (data, ended) = unchunked(&response);
    assert!(data.contains("run_failed"), "{data}");
    assert!(!ended, "the last chunk must not come");
    assert!(!frames(&data).contains(&"[DONE]".to_owned()));
    proxy.stop().await;
}

#[tokio::test]
async fn a_finished_stream_keeps_its_connection() {
    let proxy = Proxy::start(Setup::quick()).listening().await;
    let mut socket = proxy.connect().await;

    socket
        .write_all(over_the_wire("1.1", "hello").as_bytes())
        .await
        .unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"0\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut response).await.unwrap(), 0);
    }
    socket
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let next = read_out(&mut socket).await;

    let (data, ended) = unchunked(&response);
    assert!(ended && data.ends_with("data: [DONE]\n\n"));
    assert!(next.starts_with(b"HTTP/1.1 200"));
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_over_http_1_0_is_refused() {
    let proxy = Proxy::start(Setup::quick()).listening().await;

    let response = proxy.raw(over_the_wire("1.0", "hello").as_bytes()).await;

    let text = str::from_utf8(&response).unwrap();
    assert!(text.starts_with("HTTP/1.0 400"), "{text}");
    assert!(
        text.contains(r#""param":"stream","code":"unsupported_parameter""#),
        "{text}"
    );
    proxy.stop().await;
}
