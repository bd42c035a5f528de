//! Callers as SDKs are: connections that are kept, two retries, and `Retry-After` obeyed.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// As SDKs do by default.
const RETRIES: u32 = 2;

/// No attempt takes longer; one that does is a fault of the proxy.
const PATIENCE: Duration = Duration::from_secs(60);

type Connection = SendRequest<Full<Bytes>>;

/// Connections to one server, shared by its callers.
#[derive(Clone)]
pub struct Pool {
    pub address: SocketAddr,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// One call: a prompt under a key.
#[derive(Clone)]
pub struct Ask {
    pub key: String,
    pub prompt: String,
    pub stream: bool,
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 0 where there was no answer.
    pub status: u16,
    pub took: Duration,
    pub text: String,
    retry_after: Option<Duration>,
}

impl Pool {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Arc::default(),
        }
    }

    /// One call with its retries; each attempt is shown to `see`.
    pub async fn call(&self, ask: &Ask, mut see: impl FnMut(&Reply)) -> Reply {
        let mut retry = 0;
        loop {
            let reply = self.attempt(ask, retry).await;
            see(&reply);
            let again = matches!(reply.status, 0 | 408 | 409 | 429 | 500..);
            if !again || retry == RETRIES {
                return reply;
            }
            retry += 1;
            let back_off = Duration::from_millis(500) * retry;
            sleep(reply.retry_after.unwrap_or(back_off)).await;
        }
    }

    pub async fn attempt(&self, ask: &Ask, retry: u32) -> Reply {
        let began = Instant::now();
        let mut reply = match timeout(PATIENCE, self.exchange(ask, retry)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => Reply::none(error.to_string()),
            Err(_) => Reply::none("no answer in time".to_owned()),
        };
        reply.took = began.elapsed();
        reply
    }

    async fn exchange(&self, ask: &Ask, retry: u32) -> io::Result<Reply> {
        let mut connection = self.connection().await?;
        let body = serde_json::json!({
            "model": "chaturdata",
            "stream": ask.stream,
            "messages": [{"role": "user", "content": ask.prompt}],
        });
        let request = Request::post("/v1/chat/completions")
            .header(HOST, "localhost")
            .header(AUTHORIZATION, format!("Bearer {}", ask.key))
            .header(CONTENT_TYPE, "application/json")
            .header("x-stainless-retry-count", retry)
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(io::Error::other)?;
        let answer = connection.send_request(request);
        let (head, body) = answer.await.map_err(io::Error::other)?.into_parts();
        let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let closes = head.headers.get("connection");
        if closes.is_none_or(|value| value != "close") {
            self.keep(connection);
        }
        Ok(Reply {
            status: head.status.as_u16(),
            took: Duration::ZERO,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            retry_after: retry_after(&head.headers),
        })
    }

    /// The text of a page of the server's own.
    pub async fn page(&self, path: &str) -> io::Result<String> {
        let mut connection = connect(self.address).await?;
        let request = Request::get(path)
            .header(HOST, "localhost")
            .body(Full::default())
            .map_err(io::Error::other)?;
        let answer = connection.send_request(request);
        let answer = answer.await.map_err(io::Error::other)?;
        let body = answer.into_body().collect().await;
        let bytes = body.map_err(io::Error::other)?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn forget(&self) {
        self.idle.lock().expect("nobody panics with it").clear();
    }

    async fn connection(&self) -> io::Result<Connection> {
        loop {
            let kept = self.idle.lock().expect("nobody panics with it").pop();
            match kept {
                Some(connection) if !connection.is_closed() => return Ok(connection),
                Some(_) => {}
                None => return connect(self.address).await,
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().expect("nobody panics with it");
        idle.push(connection);
    }
}

impl Reply {
    fn none(why: String) -> Self {
        Self {
            status: 0,
            took: Duration::ZERO,
            text: why,
            retry_after: None,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection ends by itself")]
async fn connect(address: SocketAddr) -> io::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (connection, driver) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(driver);
    Ok(connection)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| headers.get(name)?.to_str().ok()?.parse::<f64>().ok();
    let millis = number("retry-after-ms").map(|millis: f64| millis / 1000.0);
    millis
        .or(number(RETRY_AFTER.as_str()))
        .map(Duration::from_secs_f64)
}
