//! How a request goes to the one origin: over connections of our own, or through a proxy.

mod pool;

use std::fmt::Write as _;
use std::io;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, StatusCode};
use reqwest::Url;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::{Instant, timeout_at};

use self::pool::{Answer, Pool};
use super::wire::Failure;
use crate::config;

/// Longest text of an error, in characters.
const ERROR_TEXT: usize = 300;
const AGENT: &str = concat!("chaturdata-proxy/", env!("CARGO_PKG_VERSION"));

/// Why the upstream cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text says what is wrong, and never quotes the URL: it may hold a password.
    #[error("upstream.url {0}")]
    Url(&'static str),
    #[error("upstream.proxy is not the URL of an HTTP proxy")]
    Proxy,
    #[error("TLS cannot be set up for the upstream; is a bundle of CA certificates installed?")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends requests to one origin. Follows no redirect, and repeats nothing that may have been seen. Cloning
/// shares the connections.
#[derive(Clone, Debug)]
pub enum Client {
    /// And for how long a connection that was not used may be used again.
    Direct(Arc<Pool>, Duration),
    /// Tunnels, and requests in a proxy's form, are what reqwest is for.
    Proxied(reqwest::Client, Arc<Url>),
}

/// An answer whose head has come.
#[derive(Debug)]
pub enum Response {
    Direct(Answer),
    Proxied(reqwest::Response),
}

impl Client {
    /// Two that share their connections: each uses none that was not used for its time, of which the
    /// second is the longer. Through a proxy each has its own.
    pub fn pair(
        settings: &config::Upstream,
        origin: &Url,
        idle: (Duration, Duration),
    ) -> Result<(Self, Self), Error> {
        let Some(proxy) = &settings.proxy else {
            let pool = Arc::new(direct(settings, origin, idle)?);
            return Ok((
                Self::Direct(pool.clone(), idle.0),
                Self::Direct(pool, idle.1),
            ));
        };
        let origin = Arc::new(origin.clone());
        let new = |idle| {
            proxied(settings, &origin, proxy, idle)
                .map(|client| Self::Proxied(client, origin.clone()))
        };
        Ok((new(idle.0)?, new(idle.1)?))
    }

    /// The request's URI is the path and the query alone.
    pub async fn send(&self, request: Request<Bytes>, until: Instant) -> Result<Response, Failure> {
        match self {
            Self::Direct(pool, idle) => {
                Ok(Response::Direct(pool.send(request, until, *idle).await?))
            }
            Self::Proxied(client, origin) => {
                let sent = Box::pin(client.execute(whole(origin, request)));
                let sent = timeout_at(until, sent).await.map_err(|_| late())?;
                Ok(Response::Proxied(sent?))
            }
        }
    }
}

/// The same request, with all of its URL.
fn whole(origin: &Url, request: Request<Bytes>) -> reqwest::Request {
    let (head, body) = request.into_parts();
    let mut url = origin.clone();
    url.set_path(head.uri.path());
    url.set_query(head.uri.query());
    let mut request = reqwest::Request::new(head.method, url);
    *request.headers_mut() = head.headers;
    *request.body_mut() = (!body.is_empty()).then(|| body.into());
    request
}

impl Response {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Direct(answer) => answer.head().status(),
            Self::Proxied(response) => response.status(),
        }
    }

    pub fn headers(&self) -> &HeaderMap {
        match self {
            Self::Direct(answer) => answer.head().headers(),
            Self::Proxied(response) => response.headers(),
        }
    }

    /// More of the body; `None` after its end.
    pub async fn chunk(&mut self, until: Instant) -> Result<Option<Bytes>, Failure> {
        let chunk = async {
            match self {
                Self::Direct(answer) => Ok(answer.chunk().await.map_err(|error| broken(&error))?),
                Self::Proxied(response) => Ok(response.chunk().await?),
            }
        };
        timeout_at(until, chunk)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The URL names the thread.
        let error = error.without_url();
        if error.is_connect() || error.is_builder() {
            unsent(&error)
        } else {
            broken(&error)
        }
    }
}

fn direct(
    settings: &config::Upstream,
    origin: &Url,
    idle: (Duration, Duration),
) -> Result<Pool, Error> {
    let tls = ClientConfig::builder();
    let tls = if origin.scheme() == "https" {
        tls.with_platform_verifier()
            .map_err(|error| Error::Tls(error.into()))?
    } else {
        // The machine may have no CA certificates, and none are needed.
        tls.with_root_certificates(RootCertStore::empty())
    };
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let most = settings.max_connections;
    Pool::new(origin.as_str(), tls, settings.connect_timeout, idle, most)
        .ok_or(Error::Url("is nothing that can be connected to"))
}

fn proxied(
    settings: &config::Upstream,
    origin: &Url,
    proxy: &str,
    idle: Duration,
) -> Result<reqwest::Client, Error> {
    let kept = settings.most_of_each();
    let secure = origin.scheme() == "https";
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .https_only(secure)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connection_verbose(false)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(kept)
        .proxy(reqwest::Proxy::all(proxy).map_err(|_| Error::Proxy)?);
    if !secure {
        builder = builder.tls_certs_only(iter::empty());
    }
    builder
        .build()
        .map_err(|error| Error::Tls(error.without_url().into()))
}

fn late() -> Failure {
    Failure::Broken("it did not answer in time".to_owned())
}

/// No byte of the request has left.
fn unsent(error: &(dyn std::error::Error + 'static)) -> Failure {
    if certificate_refused(error) {
        Failure::Certificate(chain(error))
    } else {
        Failure::Unsent(chain(error))
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Broken(chain(error))
}

/// The error and its causes, as one text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for error in causes(error) {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
    }
    text.chars().take(ERROR_TEXT).collect()
}

fn certificate_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    iter::once(error).chain(causes(error)).any(|error| {
        let error = unwrapped(error).downcast_ref();
        matches!(error, Some(rustls::Error::InvalidCertificate(_)))
    })
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    iter::successors(error.source(), |&error| error.source())
}

/// An I/O error passes over the error that it wraps when it is asked for its source.
fn unwrapped<'a>(
    mut error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    while let Some(wrapped) = error.downcast_ref().and_then(io::Error::get_ref) {
        error = wrapped;
    }
    error
}
