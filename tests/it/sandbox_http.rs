//! The simulated upstream over HTTP, as people's own programs meet it.

use chaturdata_proxy::config::Config;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::server::{Limits, SandboxService, Stop, serve};
use chaturdata_proxy::signal::Signal;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::Script;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::read_out;

/// Answers as the script says, to the messages `cut`, `reset` and all others.
const SCRIPT: &str = r#"
    [behaviour]
    reply = ["42"]
    [[rules]]
    when = "reset"
    behaviour.reply = ["42"]
    behaviour.post.answer = "reset"
    [[rules]]
    when = "cut"
    behaviour.reply = ["42"]
    behaviour.post.answer.cut = 7
"#;

/// What comes back for each of these requests, each on a connection of its own.
#[expect(clippy::disallowed_methods, reason = "the server runs beside the test")]
async fn answers<const N: usize>(requests: [(&str, &str, Option<Value>); N]) -> [String; N] {
    let sandbox = Sandbox::new(Script::parse(SCRIPT).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits::new(&Config::default().server, Metrics::new().connections());
    let signal = Signal::default();
    let stop = Stop::on(signal.clone());
    let served = tokio::spawn(serve(listener, SandboxService(sandbox), limits, stop));
    let mut answers = [const { String::new() }; N];
    for (answer, (method, path, body)) in answers.iter_mut().zip(requests) {
        let body = body.map_or_else(String::new, |body| body.to_string());
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer k\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        *answer = String::from_utf8(read_out(&mut socket).await).unwrap();
    }
    signal.give();
    served.await.unwrap();
    answers
}

fn body(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_thread_is_begun_continued_read_and_listed() {
    let [posted] = answers([("POST", "/api/newMessage", Some(json!({"message": "first"})))]).await;
    // The ids of a script begin where its seed says, so the next sandbox makes the same.
    let thread = body(&posted)["thread_id"].as_str().unwrap().to_owned();
    let path = format!("/api/getThread?threadId={thread}");
    let more = json!({"message": "second", "thread_id": thread});

    let [_, continued, read, posts] = answers([
        ("POST", "/api/newMessage", Some(json!({"message": "first"}))),
        ("POST", "/api/newMessage", Some(more)),
        ("GET", &path, None),
        ("GET", "/sandbox/posts", None),
    ])
    .await;

    assert_eq!(body(&continued)["thread_id"], thread);
    assert_eq!(body(&read)["run_status"]["status"], "completed");
    assert_eq!(body(&read)["messages"].as_array().unwrap().len(), 4);
    assert_eq!(
        body(&posts),
        json!([
            {"thread_id": thread, "message": "first"},
            {"thread_id": thread, "message": "second"},
        ])
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let [no_json, no_thread, no_id, no_route] = answers([
        ("POST", "/api/newMessage", Some(json!([]))),
        ("GET", "/api/getThread?threadId=th_none", None),
        ("GET", "/api/getThread?thread_id=th_none", None),
        ("GET", "/api/elsewhere", None),
    ])
    .await;

    assert!(no_json.starts_with("HTTP/1.1 400"), "{no_json}");
    assert!(no_thread.starts_with("HTTP/1.1 404"), "{no_thread}");
    assert!(no_id.starts_with("HTTP/1.1 400"), "{no_id}");
    assert!(no_route.starts_with("HTTP/1.1 404"), "{no_route}");
}

#[tokio::test]
async fn a_scripted_reset_gives_no_answer_and_the_message_is_there() {
    let [reset, posts] = answers([
        ("POST", "/api/newMessage", Some(json!({"message": "reset"}))),
        ("GET", "/sandbox/posts", None),
    ])
    .await;

    assert_eq!(reset, "");
    assert_eq!(
        body(&posts).as_array().unwrap().len(),
        0,
        "by default it never lands"
    );
}

#[tokio::test]
async fn a_scripted_cut_promises_more_than_it_sends() {
    let [cut] = answers([("POST", "/api/newMessage", Some(json!({"message": "cut"})))]).await;

    let (head, body) = cut.split_once("\r\n\r\n").unwrap();
    assert_eq!(body.len(), 7);
    assert!(head.contains("content-length: ") && !head.contains("content-length: 7\r\n"));
}
