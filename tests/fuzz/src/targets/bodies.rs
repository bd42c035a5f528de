//! The bodies of requests: from bytes to turns, and to the text that would be posted; or to what is kept
//! of a conversation.

use std::cell::RefCell;

use axum::body::Body;
use chaturdata_proxy::server::Access;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use serde_json::Value;

use super::proxy::{Proxy, Reply};

thread_local! {
    static PROXY: RefCell<Proxy> = RefCell::new(Proxy::new(|| Access::Sandbox));
}

/// The input is the body of a chat completion.
pub fn chat(body: &[u8]) {
    planned("/v1/chat/completions", body);
}

/// The input is the body of a response.
pub fn responses(body: &[u8]) {
    planned("/v1/responses", body);
    let counted = asked(Method::POST, "/v1/responses/input_tokens", body);
    if counted.status.is_success() {
        assert!(counted.json()["input_tokens"].is_u64());
    } else {
        assert_refused(&counted);
    }
}

/// The input is the body of a legacy completion.
pub fn completions(body: &[u8]) {
    planned("/v1/completions", body);
}

/// The input is the body of a new conversation.
pub fn conversations(body: &[u8]) {
    let made = asked(Method::POST, "/v1/conversations", body);
    if !made.status.is_success() {
        return assert_refused(&made);
    }
    let made = made.json();
    let path = format!("/v1/conversations/{}", made["id"].as_str().unwrap_or("?"));
    let found = then(Method::GET, &path, b"");
    assert_eq!(found.json(), made);
    let items = then(Method::GET, &format!("{path}/items?limit=100"), b"").json();
    for item in items["data"].as_array().expect("it is a list") {
        let id = item["id"].as_str().expect("an item has an id");
        let item_path = format!("{path}/items/{id}");
        let found = then(Method::GET, &item_path, b"");
        assert_eq!(found.json(), *item);
    }
    let deleted = then(Method::DELETE, &path, b"");
    assert_eq!(deleted.json()["deleted"], true);
}

/// What a dry run tells of a request.
fn planned(path: &str, body: &[u8]) {
    let reply = asked(Method::POST, path, body);
    // What is known of it by now makes no difference.
    let again = then(Method::POST, path, body);
    assert_eq!(again.status, reply.status);
    if !reply.status.is_success() {
        assert_eq!(again.json()["error"], reply.json()["error"]);
        return assert_refused(&reply);
    }
    let plan = reply.json();
    for field in ["decision", "posts"] {
        assert_eq!(again.json()[field], plan[field], "{plan}");
    }
    let text = |field: &str| plan.get(field).and_then(Value::as_str).unwrap_or_default();
    assert_ne!(text("decision"), "", "{plan}");
    assert_eq!(
        text("decision") == "local",
        text("posts").is_empty(),
        "{plan}"
    );
}

fn assert_refused(reply: &Reply) {
    assert!(reply.status.is_client_error(), "{}", reply.status);
    reply.assert_envelope();
}

fn asked(method: Method, path: &str, body: &[u8]) -> Reply {
    PROXY.with_borrow_mut(|proxy| proxy.ask(request(method, path, body)))
}

/// Asks where the last was asked.
fn then(method: Method, path: &str, body: &[u8]) -> Reply {
    PROXY.with_borrow_mut(|proxy| proxy.ask_now(request(method, path, body)))
}

fn request(method: Method, path: &str, body: &[u8]) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .header("x-dry-run", "decision")
        .body(Body::from(body.to_vec()))
        .expect("these are headers")
}
