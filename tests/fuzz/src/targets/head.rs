//! A request's head: who calls, by which name and origin, and what it says of its conversation.

use std::cell::RefCell;

use axum::body::Body;
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::callers::CallerKeys;
use http::header::HOST;
use http::{HeaderMap, Method, Request, StatusCode, Uri};

use super::proxy::{Proxy, Reply};

const CALLER_KEY: &str = "sk-caller";
const BODY: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "hi"}]}"#;

thread_local! {
    static OPEN: RefCell<Proxy> = RefCell::new(Proxy::new(|| Access::PassThrough));
    static HELD: RefCell<Proxy> = RefCell::new(Proxy::new(|| Access::Held {
        key: Secret::new("sk-upstream"),
        callers: CallerKeys::of([("caller".to_owned(), Secret::new(CALLER_KEY))]),
        anyone: false,
    }));
}

/// The input is a request line without its version, and header lines; `held ` before it asks a
/// proxy that holds the upstream's key.
pub fn head(input: &[u8]) {
    let (input, held) = match input.strip_prefix(b"held ") {
        Some(input) => (input, true),
        None => (input, false),
    };
    let Some(request) = request(input) else {
        return;
    };
    let (method, uri, headers) = (
        request.method().clone(),
        request.uri().clone(),
        request.headers().clone(),
    );

    let reply = if held { &HELD } else { &OPEN }.with_borrow_mut(|proxy| proxy.ask(request));

    if !reply.status.is_success() {
        // Without its dry run, a request may be given too little time.
        let late = reply.status == StatusCode::GATEWAY_TIMEOUT;
        assert!(late || reply.status.is_client_error(), "{}", reply.status);
        if method != Method::HEAD {
            reply.assert_envelope();
        }
        return;
    }
    assert!(is_ours(&uri, &headers), "a foreign host was served");
    let needs_key = uri.path().contains("/chat/") || uri.path() == "/metrics";
    assert!(
        !held || !needs_key || presents_key(&headers),
        "a stranger was served"
    );
    assert_told_apart(&reply);
}

/// `None` where no server would get so far.
fn request(input: &[u8]) -> Option<Request<Body>> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let line = str::from_utf8(lines.next()?).ok()?;
    let (method, target) = line.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    for line in lines.filter(|line| !line.is_empty()) {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        request = request.header(name, value);
    }
    request.body(Body::from(BODY)).ok()
}

/// Read another way than the guard does: the name is what is left without a port.
fn is_ours(uri: &Uri, headers: &HeaderMap) -> bool {
    let is_own = |authority: &str| {
        let authority = authority.to_ascii_lowercase();
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| {
            let port = authority.strip_prefix(own);
            port.is_some_and(|port| {
                port.is_empty()
                    || port
                        .strip_prefix(':')
                        .is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
            })
        })
    };
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    hosts.next().is_none()
        && host.is_some_and(is_own)
        && uri
            .authority()
            .is_none_or(|authority| is_own(authority.as_str()))
}

fn presents_key(headers: &HeaderMap) -> bool {
    let values = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .map(http::HeaderValue::as_bytes)
    };
    let bearer = values("authorization").any(|value| {
        let key = value.get("bearer".len()..).unwrap_or_default();
        value.to_ascii_lowercase().starts_with(b"bearer")
            && key.trim_ascii() == CALLER_KEY.as_bytes()
    });
    let plain = ["api-key", "x-api-key"]
        .into_iter()
        .flat_map(values)
        .any(|value| value == CALLER_KEY.as_bytes());
    bearer || plain
}

/// What a caller wrote comes back in no header but as a conversation's name.
fn assert_told_apart(reply: &Reply) {
    for (name, value) in &reply.headers {
        assert!(
            !value.as_bytes().iter().any(u8::is_ascii_control),
            "{name}: {value:?}"
        );
    }
}
