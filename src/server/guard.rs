//! The outermost layer: no web page reaches us by a name or an origin that is not ours.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Method, Uri};
use tower::{Layer, Service};

use super::error::ApiError;
use super::refusal::Refusal;
use crate::config;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Names by which this machine calls itself.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Who may call us, and how long a head may be.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    hosts: Vec<String>,
    origins: Vec<Origin>,
    max_headers: usize,
    max_head: usize,
}

impl Guard {
    pub fn new(settings: &config::Server) -> Self {
        let own = OWN_NAMES.into_iter().map(str::to_owned);
        Self(Arc::new(Rules {
            hosts: own.chain(settings.allowed_hosts.iter().cloned()).collect(),
            origins: settings
                .allowed_origins
                .iter()
                .filter_map(|origin| Origin::parse(origin))
                .collect(),
            max_headers: settings.max_headers,
            max_head: usize::try_from(settings.max_head).unwrap_or(usize::MAX),
        }))
    }

    /// Whether any page of another origin may call us at all.
    pub fn lists_origins(&self) -> bool {
        !self.0.origins.is_empty()
    }

    pub fn lists(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().ok().and_then(Origin::parse);
        origin.is_some_and(|origin| self.0.origins.contains(&origin))
    }

    fn check(&self, parts: &Parts) -> Result<(), Refusal> {
        self.check_host(&parts.uri, &parts.headers)?;
        self.check_origin(parts)?;
        self.check_size(parts)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host,
            (None, _) => return Err(Refusal::HostCount(0)),
            (Some(_), Some(_)) => return Err(Refusal::HostCount(2 + hosts.count())),
        };
        let authorities = [
            Some(host.to_str().unwrap_or_default()),
            uri.authority().map(http::uri::Authority::as_str),
        ];
        for authority in authorities.into_iter().flatten() {
            if !self.names(authority) {
                return Err(Refusal::Host(shown(authority)));
            }
        }
        Ok(())
    }

    fn names(&self, authority: &str) -> bool {
        split(authority).is_some_and(|(name, _)| {
            self.0
                .hosts
                .iter()
                .any(|host| host.eq_ignore_ascii_case(name))
        })
    }

    fn check_origin(&self, parts: &Parts) -> Result<(), Refusal> {
        let headers = &parts.headers;
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => None,
            (Some(origin), None) if self.lists(origin) => return Ok(()),
            (Some(origin), None) if is_own(origin, headers.get(HOST)) => Some(origin),
            (Some(origin), _) => {
                return Err(Refusal::Origin(shown(origin.to_str().unwrap_or_default())));
            }
        };
        let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
        match site {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) if origin.is_none() && is_navigation(parts) => Ok(()),
            Some(_) => Err(Refusal::Origin("of another site".to_owned())),
        }
    }

    /// Below hyper's own limits, so that the refusal is in the envelope.
    fn check_size(&self, parts: &Parts) -> Result<(), Refusal> {
        const REQUEST_LINE: usize = " HTTP/1.1\r\n ".len();
        const HEADER_LINE: usize = ": \r\n".len();
        let mut bytes = parts.method.as_str().len() + uri_bytes(&parts.uri) + REQUEST_LINE;
        for (name, value) in &parts.headers {
            bytes += name.as_str().len() + value.len() + HEADER_LINE;
        }
        if bytes > self.0.max_head || parts.headers.len() > self.0.max_headers {
            return Err(Refusal::HeadTooLarge {
                bytes: self.0.max_head,
                headers: self.0.max_headers,
            });
        }
        Ok(())
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            guard: self.clone(),
        }
    }
}

/// A service behind the guard.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request>,
    S::Response: IntoResponse,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (parts, body) = request.into_parts();
        match self.guard.check(&parts) {
            Ok(()) => Answering::Let(self.inner.call(Request::from_parts(parts, body))),
            Err(refusal) => Answering::Refused(Some(refusal)),
        }
    }
}

/// What is answered, behind the guard or by it.
#[derive(Debug)]
pub enum Answering<F> {
    Let(F),
    Refused(Option<Refusal>),
}

impl<F, R, E> Future for Answering<F>
where
    F: Future<Output = Result<R, E>> + Unpin,
    R: IntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = match &mut *self {
            Self::Let(answering) => ready!(Pin::new(answering).poll(context))?.into_response(),
            Self::Refused(refusal) => {
                let refusal = refusal.take().expect("nothing is polled after its end");
                ApiError::from(refusal).into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        Poll::Ready(Ok(response))
    }
}

/// Name and port of an authority, where both are plain: no user, no odd port.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            authority.split_at_checked(end)?
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if name.is_empty() || name.contains('@') {
        return None;
    }
    if port.is_empty() {
        return Some((name, None));
    }
    let digits = port.strip_prefix(':')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = digits.parse().ok().filter(|port| *port > 0)?;
    Some((name, Some(port)))
}

/// An origin as browsers mean it; equal by scheme, name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    name: String,
    port: Option<u16>,
}

impl Origin {
    fn parse(origin: &str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (name, port) = split(authority)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if !name.bytes().all(is_name) {
            return None;
        }
        let port = port.or(match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        });
        Some(Self {
            scheme,
            name: name.to_ascii_lowercase(),
            port,
        })
    }
}

/// A page that we served ourselves, by the name that it was asked for.
fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), host.map(HeaderValue::to_str)) else {
        return false;
    };
    let own = Origin::parse(&format!("http://{host}"));
    own.is_some() && own == Origin::parse(origin)
}

/// A person who follows a link or types an address.
fn is_navigation(parts: &Parts) -> bool {
    let is =
        |name: HeaderName, value: &str| parts.headers.get(name).is_some_and(|found| found == value);
    parts.method == Method::GET && is(FETCH_MODE, "navigate") && is(FETCH_DEST, "document")
}

fn uri_bytes(uri: &Uri) -> usize {
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    authority + uri.path_and_query().map_or(1, |path| path.as_str().len())
}

/// What the caller sent, short enough to be repeated to it.
fn shown(text: &str) -> String {
    const ENOUGH: usize = 100;
    if text.is_empty() {
        return "without a name".to_owned();
    }
    text.chars().take(ENOUGH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(origins: &[&str]) -> Guard {
        Guard(Arc::new(Rules {
            hosts: OWN_NAMES
                .into_iter()
                .chain(["proxy"])
                .map(str::to_owned)
                .collect(),
            origins: origins
                .iter()
                .filter_map(|origin| Origin::parse(origin))
                .collect(),
            max_headers: 64,
            max_head: 32 * 1024,
        }))
    }

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(axum::body::Body::empty())
            .unwrap()
            .into_parts()
            .0
    }

    #[test]
    fn only_exact_names_are_hosts() {
        let guard = rules(&[]);
        let allowed = [
            "localhost",
            "LocalHost:8484",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:65535",
            "proxy",
            "PROXY:80",
        ];
        let refused = [
            "",
            "localhost.",
            "localhost.:80",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "evil.test",
            "127.1",
            "0.0.0.0",
            "0",
            "2130706433",
            "[::ffff:7f00:1]",
            "[::]",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "localhost:",
            "localhost:0",
            "localhost:99999",
            "localhost:+80",
            "localhost:80:80",
            "localhost:8o",
            "user@localhost",
            "localhost@evil.test",
            "localhost evil.test",
            "localhost,evil.test",
            "http://localhost",
            "localhost/",
            "*",
            "127.0.0.1%00",
            "xlocalhost",
        ];

        for host in allowed {
            assert!(guard.names(host), "{host}");
        }
        for host in refused {
            assert!(!guard.names(host), "{host}");
        }
    }

    #[test]
    fn one_host_is_wanted_and_the_uris_must_be_allowed_too() {
        let guard = rules(&[]);
        let check = |uri, headers: &[(&str, &str)]| guard.check(&parts("GET", uri, headers));

        assert_eq!(check("/", &[("host", "localhost")]), Ok(()));
        assert_eq!(check("http://127.0.0.1/", &[("host", "localhost")]), Ok(()));
        assert_eq!(check("/", &[]), Err(Refusal::HostCount(0)));
        assert_eq!(
            check("/", &[("host", "localhost"), ("host", "localhost")]),
            Err(Refusal::HostCount(2))
        );
        assert_eq!(
            check("http://evil.test/", &[("host", "localhost")]),
            Err(Refusal::Host("evil.test".to_owned()))
        );
    }

    #[test]
    fn origins_are_compared_as_parsed() {
        let guard = rules(&["https://chat.example", "http://localhost:3000"]);
        let listed = |origin: &str| guard.lists(&HeaderValue::from_str(origin).unwrap());

        for origin in [
            "https://chat.example",
            "https://CHAT.example:443",
            "http://localhost:3000",
        ] {
            assert!(listed(origin), "{origin}");
        }
        for origin in [
            "http://chat.example",
            "https://chat.example:444",
            "https://chat.example.evil.test",
            "https://evil.test#https://chat.example",
            "https://chat.example@evil.test",
            "https://chat.example/",
            "null",
            "",
            "http://localhost.evil.test:3000",
            "http://localhost",
            "https://xchat.example",
            "*",
        ] {
            assert!(!listed(origin), "{origin}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let guard = rules(&["https://chat.example"]);
        let check = |method, extra: &[(&str, &str)]| {
            let headers = [&[("host", "localhost:8484")], extra].concat();
            guard.check(&parts(method, "/v1/models", &headers)).is_ok()
        };
        let cross = ("sec-fetch-site", "cross-site");
        let navigate = ("sec-fetch-mode", "navigate");
        let document = ("sec-fetch-dest", "document");

        assert!(check("POST", &[]));
        assert!(check("POST", &[("origin", "https://chat.example"), cross]));
        assert!(check(
            "POST",
            &[
                ("origin", "http://localhost:8484"),
                ("sec-fetch-site", "same-origin")
            ]
        ));
        assert!(check("GET", &[("sec-fetch-site", "none")]));
        assert!(check("GET", &[cross, navigate, document]));
        assert!(!check("GET", &[cross]));
        assert!(!check("GET", &[("sec-fetch-site", "same-site")]));
        assert!(!check(
            "GET",
            &[cross, navigate, ("sec-fetch-dest", "iframe")]
        ));
        assert!(!check("POST", &[cross, navigate, document]));
        assert!(!check("POST", &[("origin", "null")]));
        assert!(!check("POST", &[("origin", "http://localhost:3000")]));
        assert!(!check("POST", &[("origin", "http://localhost.evil.test")]));
        assert!(!check(
            "POST",
            &[
                ("origin", "https://chat.example"),
                ("origin", "https://chat.example")
            ]
        ));
    }

    #[test]
    fn heads_beyond_the_limits_are_refused() {
        let guard = rules(&[]);
        let long = "x".repeat(33 * 1024);
        let names: Vec<String> = (0..64).map(|number| format!("x-{number}")).collect();
        let mut many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        many.push(("host", "localhost"));

        let too_long = guard.check(&parts(
            "GET",
            "/",
            &[("host", "localhost"), ("x-long", &long)],
        ));
        let too_many = guard.check(&parts("GET", "/", &many));
        many.remove(0);
        let just_enough = guard.check(&parts("GET", "/", &many));

        assert!(matches!(too_long, Err(Refusal::HeadTooLarge { .. })));
        assert!(matches!(too_many, Err(Refusal::HeadTooLarge { .. })));
        assert_eq!(just_enough, Ok(()));
    }
}
