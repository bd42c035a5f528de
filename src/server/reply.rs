//! Bodies of answers, and the headers that they carry beside.

use axum::response::Response;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::form::Kind;
use crate::run::Place;

pub const CONVERSATION_ID: HeaderName = HeaderName::from_static("x-conversation-id");
pub const CONVERSATION_DECISION: HeaderName = HeaderName::from_static("x-conversation-decision");
/// As other services name it; OpenAI's API has no such header.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub const IGNORED_PARAMS: HeaderName = HeaderName::from_static("x-ignored-params");
pub const EMULATED: HeaderName = HeaderName::from_static("x-emulated");
pub const USAGE_SOURCE: HeaderName = HeaderName::from_static("x-usage-source");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// A body of JSON.
pub fn json(body: String) -> Response {
    let mut response = Response::new(body.into());
    let json = HeaderValue::from_static("application/json");
    let headers = response.headers_mut();
    // For what is told beside most answers.
    headers.reserve(8);
    headers.insert(CONTENT_TYPE, json);
    response
}

/// Says which conversation the answer belongs to, and how its thread was found.
pub fn tell_place(headers: &mut HeaderMap, place: &Place) {
    tell_conversation(headers, &place.conversation.0);
    headers.insert(
        CONVERSATION_DECISION,
        HeaderValue::from_static(place.decision.as_str()),
    );
    if place.is_replay {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
}

pub fn tell_conversation(headers: &mut HeaderMap, name: &str) {
    // A handle came in by a header or is checked as one would be, so this does not fail; a
    // header with something missing from it would be worse than none.
    if let Ok(id) = HeaderValue::from_bytes(name.as_bytes()) {
        headers.insert(CONVERSATION_ID, id);
    }
}

/// Says what of the answer's form the proxy sees to, as the upstream knows no forms.
pub fn tell_form(headers: &mut HeaderMap, kind: Kind) {
    let emulated = match kind {
        Kind::Text => return,
        Kind::Json => "json",
        Kind::Calls => "tools",
        Kind::JsonOrCalls => "json, tools",
    };
    headers.insert(EMULATED, HeaderValue::from_static(emulated));
}

/// Names the request's fields that had no effect, and says where `usage` comes from.
pub fn tell_notes(headers: &mut HeaderMap, ignored: &[String]) {
    if !ignored.is_empty()
        && let Ok(names) = HeaderValue::from_str(&ignored.join(", "))
    {
        headers.insert(IGNORED_PARAMS, names);
    }
    headers.insert(USAGE_SOURCE, HeaderValue::from_static("estimated"));
}
