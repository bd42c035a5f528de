//! One log line for each request, written when its answer has left or its caller has: no text,
//! no keys, no query strings.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::info;

use super::choices::Choices;
use super::error::Code;
use super::extract::endpoint;
use super::random_id;
use super::reply::{PROCESSING_MS, REQUEST_ID};
use crate::conversation::Decision;
use crate::metrics::{Metrics, Route};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a handler adds to the line; an extension of the request.
#[derive(Clone, Debug)]
pub struct Note {
    pub arrived: Instant,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    decision: Option<Decision>,
    polls: Option<u32>,
    code: Option<&'static str>,
}

impl Note {
    pub fn new() -> Self {
        Self {
            arrived: Instant::now(),
            noted: Arc::default(),
        }
    }

    /// Where a caller's turn stands by now.
    pub fn turn(&self, choices: &Choices) {
        let mut noted = self.noted();
        noted.decision = Some(choices.place().decision);
        noted.polls = Some(choices.polls());
    }

    pub fn error(&self, code: &'static str) {
        self.noted().code = Some(code);
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layer: names each request, times it, and writes its line.
#[derive(Clone, Debug)]
pub struct Record(pub Arc<Metrics>);

impl<S> Layer<S> for Record {
    type Service = Recorder<S>;

    fn layer(&self, inner: S) -> Recorder<S> {
        Recorder {
            inner,
            metrics: Arc::clone(&self.0),
        }
    }
}

/// What [`Record`] makes of a service that is always ready.
#[derive(Clone, Debug)]
pub struct Recorder<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> Service<Request> for Recorder<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Recording<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let note = Note::new();
        let line = Box::new(Line {
            metrics: Arc::clone(&self.metrics),
            note: note.clone(),
            id: request_id(request.headers()),
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            trace_id: trace_id(request.headers()),
            status: None,
            ended: false,
        });
        request.extensions_mut().insert(note);
        Recording {
            answering: self.inner.call(request),
            line: Some(line),
        }
    }
}

/// A request whose answer is awaited; dropped before, it has its line all the same.
#[derive(Debug)]
pub struct Recording<F> {
    answering: F,
    line: Option<Box<Line>>,
}

impl<F, E> Future for Recording<F>
where
    F: Future<Output = Result<Response, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.answering).poll(context))?;
        let line = self.line.take();
        let mut line = line.expect("nothing is polled after its end");
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, line.id.clone());
        headers.insert(
            PROCESSING_MS,
            HeaderValue::from(millis(line.note.arrived.elapsed())),
        );
        line.status = Some(response.status());
        if let Some(Code(code)) = response.extensions().get::<Code>() {
            line.note.error(code);
        }
        Poll::Ready(Ok(response.map(|body| Body::new(Recorded::new(body, line)))))
    }
}

/// The caller's own id where it is a plain word, else one of ours.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    const LONGEST: usize = 128;
    let is_plain = |id: &&HeaderValue| {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(is_word)
    };
    match headers.get(REQUEST_ID).filter(is_plain) {
        // A clone would keep all of the head that it is a slice of.
        Some(id) => HeaderValue::from_bytes(id.as_bytes()).expect("it is one already"),
        None => HeaderValue::try_from(random_id("req_")).expect("hex digits are fit for a header"),
    }
}

/// The trace that the caller's own spans belong to, as W3C Trace Context writes it.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let parent = headers.get(TRACE_PARENT)?.to_str().ok()?;
    let mut fields = parent.split('-');
    let is_hex = |field: &&str, length| {
        field.len() == length
            && field
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    fields
        .next()
        .filter(|version| is_hex(version, 2) && *version != "ff")?;
    let trace = fields.next().filter(|trace| is_hex(trace, 32))?;
    fields.next().filter(|span| is_hex(span, 16))?;
    trace
        .bytes()
        .any(|byte| byte != b'0')
        .then(|| trace.to_owned())
}

/// A line to be written, at the latest when nobody cares any more.
#[derive(Debug)]
struct Line {
    metrics: Arc<Metrics>,
    note: Note,
    id: HeaderValue,
    method: Method,
    route: Option<MatchedPath>,
    trace_id: Option<String>,
    status: Option<StatusCode>,
    ended: bool,
}

impl Line {
    fn route(&self) -> Route {
        match endpoint(self.route.as_ref().map_or("", MatchedPath::as_str)) {
            "/chat/completions" => Route::Chat,
            "/completions" => Route::Completions,
            "/responses" => Route::Responses,
            "/responses/{id}" => Route::Response,
            "/responses/{id}/cancel" => Route::Cancel,
            "/responses/{id}/input_items" => Route::InputItems,
            "/responses/input_tokens" => Route::InputTokens,
            "/conversations" => Route::Conversations,
            "/conversations/{id}" => Route::Conversation,
            "/conversations/{id}/items" => Route::Items,
            "/conversations/{id}/items/{item}" => Route::Item,
            "/models" => Route::Models,
            "/models/{*id}" => Route::Model,
            "/capabilities" => Route::Capabilities,
            "/livez" => Route::Live,
            "/readyz" => Route::Ready,
            "/metrics" => Route::Metrics,
            _ => Route::Other,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let status = self.status.map_or(0, |status| status.as_u16());
        self.metrics.request_ended(self.route(), status);
        let noted = *self.note.noted();
        info!(
            target: "chaturdata_proxy::request",
            method = known(&self.method),
            request.id = self.id.to_str().unwrap_or_default(),
            route = self.route.as_ref().map_or("none", MatchedPath::as_str),
            status = self.status.map(|status| status.as_u16()),
            decision = noted.decision.map(Decision::as_str),
            polls = noted.polls,
            error.code = noted.code,
            trace.id = self.trace_id.as_deref(),
            hung_up = (!self.ended).then_some(true),
            duration_ms = millis(self.note.arrived.elapsed()),
            "request ended"
        );
    }
}

/// A caller may send any word as a method.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::HEAD
        | Method::OPTIONS
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::CONNECT
        | Method::TRACE => method.as_str(),
        _ => "other",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A body that carries its line to its end.
#[derive(Debug)]
struct Recorded {
    body: Body,
    line: Box<Line>,
}

impl Recorded {
    fn new(body: Body, mut line: Box<Line>) -> Self {
        // hyper asks for no frame of an answer to HEAD.
        line.ended = line.method == Method::HEAD || http_body::Body::is_end_stream(&body);
        Self { body, line }
    }
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            // An error is our own doing: the body is broken off on purpose.
            Poll::Ready(None | Some(Err(_))) => self.line.ended = true,
            Poll::Ready(Some(Ok(_))) => self.line.ended = self.body.is_end_stream(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_id_is_taken_over_where_it_is_a_plain_word() {
        let id = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(value));
            request_id(&headers).to_str().unwrap().to_owned()
        };

        assert_eq!(id("abc-1.2_3"), "abc-1.2_3");
        for odd in ["", "a b", "a\"b", "a;b"] {
            assert!(id(odd).starts_with("req_"), "{odd}");
        }
    }

    #[test]
    fn a_trace_is_taken_over_only_whole() {
        let trace = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACE_PARENT, HeaderValue::from_static(value));
            trace_id(&headers)
        };

        assert_eq!(
            trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace(bad), None, "{bad}");
        }
    }
}
