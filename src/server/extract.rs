//! A request's body as a value: bounded, timed, JSON, and hashed on the way.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, FromRequest, FromRequestParts, MatchedPath, Path, Query, Request};
use bytes::BytesMut;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::auth::{Caller, Gate};
use super::bodies::Bodies;
use super::envelope::{Heads, envelope};
use super::error::ApiError;
use super::refusal::Refusal;
use crate::config;
use crate::openai::{self, Envelope};
use crate::run::live::Runner;
use crate::run::share::Share;

/// How long a body may be, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    pub bytes: u64,
    pub time: Duration,
}

impl BodyLimits {
    pub fn new(settings: &config::Server) -> Self {
        Self {
            bytes: settings.max_body,
            time: settings.body_timeout,
        }
    }
}

/// Bytes per second below which a body is not waited for, once it had a little time to begin.
const LEAST_RATE: f64 = 1024.0;
const TO_BEGIN: Duration = Duration::from_secs(5);

/// Room is made for so much of a body before any of it is there.
const AT_ONCE: u64 = 16 * 1024;

/// Then for so many times what is there.
const GROWTH: u64 = 4;

/// Longer bodies are parsed and read away from the threads that serve everyone.
const LONG: usize = 256 * 1024;

/// A whole request: who sends it, what its head says of it, and its body. Checked in that order,
/// so that nothing is read for a stranger.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds what people wrote")]
pub struct WireJson<T> {
    pub envelope: Envelope,
    pub request: T,
    /// Of the body, in bytes.
    pub length: usize,
}

impl<T: Send + 'static> WireJson<T> {
    /// What is made of the request.
    pub fn read<R: Send + 'static>(
        self: Box<Self>,
        read: impl FnOnce(T, Envelope) -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, Refusal>> {
        Box::pin(apart(self.length, move || {
            let Self {
                request, envelope, ..
            } = *self;
            read(request, envelope)
        }))
    }
}

/// Boxed, since handlers that wait for an answer keep room for what they are given.
impl<S, T> FromRequest<S> for Box<WireJson<T>>
where
    S: Send + Sync,
    T: openai::Body + Send + 'static,
    Gate: FromRef<S>,
    Runner: FromRef<S>,
    Heads: FromRef<S>,
    BodyLimits: FromRef<S>,
    Bodies: FromRef<S>,
{
    type Rejection = ApiError;

    fn from_request(
        request: Request,
        state: &S,
    ) -> impl Future<Output = Result<Self, ApiError>> + Send {
        Box::pin(async { WireJson::whole(request, state).await.map(Self::new) })
    }
}

impl<T: openai::Body + Send + 'static> WireJson<T> {
    async fn whole<S>(request: Request, state: &S) -> Result<Self, ApiError>
    where
        S: Send + Sync,
        Gate: FromRef<S>,
        Runner: FromRef<S>,
        Heads: FromRef<S>,
        BodyLimits: FromRef<S>,
        Bodies: FromRef<S>,
    {
        let (parts, body) = request.into_parts();
        let Caller(caller) = Caller::of(&parts, state)?;
        let heads = Heads::from_ref(state);
        let mut envelope = envelope(&heads, &parts.headers, caller)?;
        check_media_type(&parts.headers)?;
        let bytes = whole(body, &parts.headers, BodyLimits::from_ref(state)).await?;
        if let Some(seat) = parts.extensions.get::<Arc<Share>>() {
            seat.shrink_to(bytes.len() as u64);
        }
        let route = parts.extensions.get::<MatchedPath>();
        let route = endpoint(route.map_or("", MatchedPath::as_str)).to_owned();
        let length = bytes.len();
        let bodies = Bodies::from_ref(state);
        let known = bodies.known_of(&envelope.caller.tenant);
        let parse = move || {
            let (hash, list) = bodies.hash(&route, &bytes, T::LIST);
            let request = list.and_then(|list| T::of_known(&bytes, list, &known));
            let request = request.map_or_else(|| parsed(&bytes), Ok)?;
            Ok::<_, ApiError>((request, hash))
        };
        let (request, hash) = apart(length, parse).await??;
        envelope.body = hash;
        Ok(Self {
            envelope,
            request,
            length,
        })
    }
}

/// What stands in a path for `{id}` or the like.
pub struct Segment<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segment<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(segment) = path.map_err(|_| Refusal::Value {
            message: "the path is not UTF-8".to_owned(),
            param: None,
        })?;
        Ok(Self(segment))
    }
}

/// The fields of a request without a body: what stands behind the `?`.
pub struct Asked(pub Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::from_request_parts(parts, state).await;
        let Query(fields) = query.map_err(|_| Refusal::Value {
            message: "the query cannot be read".to_owned(),
            param: None,
        })?;
        Ok(Self(fields))
    }
}

/// The route without the prefixes that it may be called under.
pub fn endpoint(path: &str) -> &str {
    let path = path.strip_prefix("/openai").unwrap_or(path);
    path.strip_prefix("/v1").unwrap_or(path)
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = media_type.and_then(|value| value.split(|byte| *byte == b';').next());
    let is_json = essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    });
    if !is_json {
        return Err(Refusal::MediaType(
            "the body must be JSON, sent as 'Content-Type: application/json'",
        ));
    }
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err(Refusal::MediaType("the body must not be compressed")),
    }
}

/// The whole body. What is too large by its own words is refused before any of it is read.
async fn whole(body: Body, headers: &HeaderMap, limits: BodyLimits) -> Result<Bytes, Refusal> {
    let told = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .unwrap_or_else(|| body.size_hint().lower());
    if told > limits.bytes {
        return Err(Refusal::TooLarge(limits.bytes));
    }
    let start = Instant::now();
    let mut body = body;
    let mut read = BytesMut::new();
    loop {
        let earned = Duration::from_secs_f64(read.len() as f64 / LEAST_RATE);
        let deadline = start + limits.time.min(TO_BEGIN + earned);
        let Ok(frame) = timeout_at(deadline, body.frame()).await else {
            return Err(Refusal::SlowBody);
        };
        let Some(frame) = frame else {
            return Ok(read.freeze());
        };
        // Trailers say nothing that we heed.
        if let Ok(data) = frame.map_err(|_| Refusal::BrokenBody)?.into_data() {
            if (read.len() + data.len()) as u64 > limits.bytes {
                return Err(Refusal::TooLarge(limits.bytes));
            }
            if read.is_empty() {
                // Most bodies come at once, and are taken as they lie.
                if body.is_end_stream() {
                    return Ok(data);
                }
            }
            let there = read.len() + data.len();
            if read.capacity() < there {
                // A long body is moved a few times only, and nobody gets much room by words alone.
                let ahead = told.min(AT_ONCE.max(GROWTH * there as u64)) as usize;
                read.reserve(ahead.saturating_sub(read.len()));
            }
            read.extend_from_slice(&data);
        }
    }
}

/// Does what takes as long as so many bytes do.
async fn apart<R: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Refusal> {
    if bytes <= LONG {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::Panic)
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Keeping track of the place costs as much again, and is of use to an error alone.
    serde_json::from_slice(bytes).or_else(|_| placed(bytes))
}

fn placed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        told(error.inner(), &path)
    })?;
    json.end().map_err(|error| told(&error, "."))?;
    Ok(value)
}

fn told(error: &serde_json::Error, path: &str) -> ApiError {
    use serde_json::error::Category;
    let refusal = match error.classify() {
        Category::Data => Refusal::Value {
            message: error.to_string(),
            param: place(path, &error.to_string()),
        },
        Category::Syntax | Category::Eof | Category::Io => Refusal::Syntax(error.to_string()),
    };
    refusal.into()
}

/// The field that is wrong, or missing.
fn place(path: &str, message: &str) -> Option<String> {
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next());
    match (path, missing) {
        (".", missing) => missing.map(str::to_owned),
        (path, None) => Some(path.to_owned()),
        (path, Some(missing)) => Some(format!("{path}.{missing}")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "its shape is what is tested")]
    struct Shape {
        model: String,
        messages: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "its shape is what is tested")]
    struct Line {
        content: String,
    }

    fn code_and_body(json: &[u8]) -> String {
        parsed::<Shape>(json).unwrap_err().body()
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_a_wrong_shape() {
        let good = br#"{"model": "m", "messages": []}"#;
        assert!(parsed::<Shape>(good).is_ok());
        let deep = format!("{{\"x\": {}", "[".repeat(100_000));
        let syntax: [&[u8]; 9] = [
            b"",
            b"{",
            b"\xef\xbb\xbf{}",
            b"{\"model\": \"\xff\"}",
            b"{\"model\": \"\\ud800\"}",
            b"{\"model\": 1e999}",
            b"{\"model\": \"m\", \"messages\": []} x",
            b"{\"model\": \"\0\"}",
            deep.as_bytes(),
        ];
        for json in syntax {
            let body = code_and_body(json);
            assert!(body.contains("invalid_json"), "{body}");
        }
    }

    #[test]
    fn a_wrong_shape_names_its_place() {
        let body =
            code_and_body(br#"{"model": "m", "messages": [{"content": "a"}, {"content": 7}]}"#);

        insta::assert_snapshot!(body, @r#"{"error":{"message":"invalid type: integer `7`, expected a string at line 1 column 59","type":"invalid_request_error","param":"messages[1].content","code":"invalid_value"}}"#);
    }

    #[test]
    fn a_missing_field_is_named() {
        let param = |json: &[u8]| {
            code_and_body(json)
                .split(r#""param":"#)
                .nth(1)
                .map(str::to_owned)
        };

        insta::assert_snapshot!(param(b"{}").unwrap(), @r#""model","code":"invalid_value"}}"#);
        let inner = br#"{"model": "m", "messages": [{}]}"#;
        insta::assert_snapshot!(param(inner).unwrap(), @r#""messages[0].content","code":"invalid_value"}}"#);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_not_waited_for() {
        let limits = BodyLimits {
            bytes: 1 << 20,
            time: Duration::from_secs(30),
        };
        let pieces = futures_util::stream::unfold(0_u32, |sent| async move {
            if sent > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Some((Ok::<_, std::io::Error>(vec![b' '; 2048]), sent + 1))
        });
        let start = Instant::now();

        let slow = whole(Body::from_stream(pieces), &HeaderMap::new(), limits).await;
        let lasted = start.elapsed();
        let silent =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let start = Instant::now();
        let stopped = whole(silent, &HeaderMap::new(), limits).await;

        assert_eq!(slow, Err(Refusal::SlowBody));
        assert_eq!(lasted.as_secs(), 30);
        assert_eq!(stopped, Err(Refusal::SlowBody));
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn a_body_is_bounded_by_its_words_and_by_its_bytes() {
        let limits = BodyLimits {
            bytes: 4,
            time: Duration::from_secs(30),
        };
        let mut words = HeaderMap::new();
        words.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        let never =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let pieces = ["123", "45"].map(Ok::<_, std::io::Error>);
        let endless = Body::from_stream(futures_util::stream::iter(pieces));

        assert_eq!(
            whole(never, &words, limits).await,
            Err(Refusal::TooLarge(4))
        );
        assert_eq!(
            whole(endless, &HeaderMap::new(), limits).await,
            Err(Refusal::TooLarge(4))
        );
        assert_eq!(
            whole(Body::from("1234"), &HeaderMap::new(), limits).await,
            Ok(Bytes::from("1234"))
        );
    }

    #[test]
    fn a_route_is_the_same_under_each_of_its_prefixes() {
        for path in [
            "/chat/completions",
            "/v1/chat/completions",
            "/openai/v1/chat/completions",
        ] {
            assert_eq!(endpoint(path), "/chat/completions");
        }
    }
}
