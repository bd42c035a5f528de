//! The body of a chat completion: from bytes to a turn, and to the text that would be posted.

use std::cell::RefCell;

use axum::body::Body;
use chaturdata_proxy::server::Access;
use http::Request;
use http::header::{CONTENT_TYPE, HOST};

use super::proxy::Proxy;

thread_local! {
    static PROXY: RefCell<Proxy> = RefCell::new(Proxy::new(|| Access::Sandbox));
}

/// The input is the body.
pub fn chat(body: &[u8]) {
    let request = Request::post("/v1/chat/completions")
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .header("x-dry-run", "decision")
        .body(Body::from(body.to_vec()))
        .expect("these are headers");

    let reply = PROXY.with_borrow_mut(|proxy| proxy.ask(request));

    if reply.status.is_success() {
        let plan = reply.json();
        let decision = plan["decision"].as_str().unwrap_or_default();
        let posts = plan["posts"].as_str().unwrap_or_default();
        assert_ne!(decision, "", "{plan}");
        assert_eq!(decision == "local", posts.is_empty(), "{plan}");
    } else {
        assert!(reply.status.is_client_error(), "{}", reply.status);
        reply.assert_envelope();
    }
}
