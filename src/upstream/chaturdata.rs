//! Chat Ur Data over HTTP: one origin, fixed at start, that no request and no answer can steer.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue,
};
use http::{Method, Request, request};
use reqwest::Url;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

pub use super::client::Error;
use super::client::{Client, Response};
use super::gzip::unzipped;
use super::wire::{self, Answered, Failure};
use super::{Call, NewMessage, PostError, Posted, ReadError, Refusal, Thread, ThreadId, Upstream};
use crate::clock::{Looked, Moment};
use crate::config;
use crate::secret::Secret;

/// Far under any server's keep-alive: on a connection that the server has just closed, a POST would
/// fail in a way that leaves it unknown whether the message was taken.
const POSTS_IDLE: Duration = Duration::from_secs(1);
/// Just under the usual keep-alive of 5 s.
const POLLS_IDLE: Duration = Duration::from_secs(4);
/// Answers to reads that have more bytes than this are held few at a time, so that memory is bounded
/// whatever all the connections bring. An answer to a POST names a thread, and is never so long.
const LARGE: usize = 128 * 1024;
const LARGE_AT_ONCE: usize = 4;
/// Those of more than this are held one at a time.
const HUGE: usize = 1024 * 1024;

/// The upstream itself.
#[derive(Debug)]
pub struct ChatUrData {
    clients: Mutex<Clients>,
    /// Tells the wall's time.
    wall: fn() -> Moment,
    settings: config::Upstream,
    origin: Url,
    /// The path of all calls, with no slash at its end.
    path: String,
    /// Permits to hold a large answer, and a huge one.
    large: Semaphore,
    huge: Semaphore,
    max_body: usize,
}

/// Who holds the connections, and when they were last used.
#[derive(Debug)]
struct Clients {
    posts: Client,
    polls: Client,
    used: Looked,
}

/// What the answer to one call may take: the permit is held until the answer is parsed.
struct Room<'a> {
    limit: Duration,
    /// Of the answer, encoded as well as decoded.
    max: usize,
    /// So much of it without another permit.
    allowed: usize,
    of: &'a ChatUrData,
    permit: Option<SemaphorePermit<'a>>,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
}

impl ChatUrData {
    /// Connects to nothing yet. Makes `ring` the process's TLS provider where there is none, since
    /// a client cannot be built without one.
    pub fn new(settings: &config::Upstream) -> Result<Self, Error> {
        Self::by(Moment::of_wall, settings)
    }

    /// As above, by another clock on the wall.
    pub fn by(wall: fn() -> Moment, settings: &config::Upstream) -> Result<Self, Error> {
        // An error says that the program has chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let origin = origin(&settings.url)?;
        Ok(Self {
            clients: Mutex::new(Clients::new(settings, &origin, wall())?),
            wall,
            settings: settings.clone(),
            path: path(&origin),
            origin,
            large: Semaphore::new(LARGE_AT_ONCE),
            huge: Semaphore::new(1),
            max_body: usize::try_from(settings.max_body).unwrap_or(usize::MAX),
        })
    }

    async fn new_message(&self, key: &Secret, message: &NewMessage) -> Result<Posted, PostError> {
        let Some(key) = bearer(key) else {
            return Err(PostError::Refused(Refusal {
                status: 401,
                retry_after: None,
                words: "the key holds characters that no header can carry".to_owned(),
            }));
        };
        let thread = message.thread.as_ref();
        // Room for the names, an id, and a few escapes.
        let mut body = Vec::with_capacity(message.text.len() + message.text.len() / 16 + 128);
        let written = serde_json::to_writer(
            &mut body,
            &MessageBody {
                message: &message.text,
                thread_id: thread.map(|thread| &*thread.0),
            },
        );
        written.map_err(|error| PostError::Unsent(error.to_string()))?;
        let request = begun()
            .method(Method::POST)
            .uri([&self.path, "/newMessage"].concat())
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, key)
            .body(Bytes::from(body));
        let request = request.map_err(|error| PostError::Unsent(error.to_string()))?;
        let client = self.client(|clients| &clients.posts);
        let mut room = self.room(self.settings.post_timeout, self.max_body.min(LARGE));
        let answer = room.answer(&client, request).await?;
        wire::posted(thread, &answer)
    }

    async fn get_thread(&self, key: &Secret, thread: &ThreadId) -> Result<Thread, ReadError> {
        let key = bearer(key).ok_or(ReadError::KeyRefused(401))?;
        let request = begun()
            .uri([&self.path, "/getThread?threadId=", &query_value(&thread.0)].concat())
            .header(AUTHORIZATION, key)
            .body(Bytes::new());
        let request = request.map_err(|error| ReadError::Passing(error.to_string()))?;
        let client = self.client(|clients| &clients.polls);
        let mut room = self.room(self.settings.read_timeout, self.max_body);
        let answer = room.answer(&client, request).await?;
        wire::thread(&answer)
    }

    /// One of them; new ones where the machine has slept: their peers have long forgotten the connections.
    fn client(&self, of: fn(&Clients) -> &Client) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let wall = (self.wall)();
        if clients.used.slept(wall)
            && let Ok(new) = Clients::new(&self.settings, &self.origin, wall)
        {
            *clients = new;
        }
        of(&clients).clone()
    }

    fn room(&self, limit: Duration, max: usize) -> Room<'_> {
        Room {
            limit,
            max,
            allowed: max.min(LARGE),
            of: self,
            permit: None,
        }
    }
}

impl Clients {
    fn new(settings: &config::Upstream, origin: &Url, wall: Moment) -> Result<Self, Error> {
        let (posts, polls) = Client::pair(settings, origin, (POSTS_IDLE, POLLS_IDLE))?;
        Ok(Self {
            posts,
            polls,
            used: Looked::at(wall),
        })
    }
}

impl Room<'_> {
    async fn answer(
        &mut self,
        client: &Client,
        mut request: Request<Bytes>,
    ) -> Result<Answered, Failure> {
        let until = Instant::now() + self.limit;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let mut response = client.send(request, until).await?;
        let status = response.status().as_u16();
        let body = match self.body(&mut response, until).await {
            Ok(body) => body,
            Err(failure) if status == 200 => return Err(failure),
            // What other statuses mean stands in the head; only their words are lost.
            Err(_) => Bytes::new(),
        };
        let headers = response.headers();
        Ok(Answered::new(status, headers, body, SystemTime::now()))
    }

    /// The body, with both its encoded and its decoded length bounded while it is read.
    async fn body(&mut self, response: &mut Response, until: Instant) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk(until).await? {
            let length = body.len().saturating_add(chunk.len());
            if self.grow(length, until).await? {
                // At once, since growing by and by holds the old and the new at times.
                body.reserve(self.allowed - body.len());
            }
            body.extend_from_slice(&chunk);
        }
        let encoding = response.headers().get(CONTENT_ENCODING);
        match encoding.map(|value| value.as_bytes().to_ascii_lowercase()) {
            None => Ok(body.freeze()),
            Some(name) if name.is_empty() || name == b"identity" => Ok(body.freeze()),
            Some(name) if name == b"gzip" || name == b"x-gzip" => self.decoded(&body, until).await,
            Some(_) => Err(Failure::Broken(
                "its answer has an encoding that was not asked for".to_owned(),
            )),
        }
    }

    /// What was zipped. How much comes out of few bytes is seen before room is taken for it.
    async fn decoded(&mut self, zipped: &[u8], until: Instant) -> Result<Bytes, Failure> {
        loop {
            match unzipped(zipped, self.allowed) {
                Ok(Some(text)) => return Ok(text),
                Ok(None) => self.grow(self.allowed.saturating_add(1), until).await?,
                Err(_) => return Err(Failure::Broken("its answer cannot be unzipped".to_owned())),
            };
        }
    }

    /// Room for so many bytes; tells whether more was allowed for them.
    async fn grow(&mut self, bytes: usize, until: Instant) -> Result<bool, Failure> {
        if bytes > self.max {
            return Err(too_large());
        }
        if bytes <= self.allowed {
            return Ok(false);
        }
        let permit = if bytes <= HUGE {
            self.allowed = self.max.min(HUGE);
            let permit = timeout_at(until, self.of.large.acquire()).await;
            permit.ok().and_then(Result::ok)
        } else {
            // Whoever waited would hold what it has, and keep others out by that.
            self.allowed = self.max;
            self.of.huge.try_acquire().ok()
        };
        self.permit = Some(permit.ok_or(Failure::Crowded)?);
        Ok(true)
    }
}

impl Upstream for ChatUrData {
    fn post<'a>(
        &'a self,
        key: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        Box::pin(self.new_message(key, message))
    }

    fn read<'a>(
        &'a self,
        key: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        Box::pin(self.get_thread(key, thread))
    }
}

fn origin(url: &str) -> Result<Url, Error> {
    let url = Url::parse(url.trim()).map_err(|_| Error::Url("is not a URL"))?;
    let host = url.host_str().ok_or(Error::Url("names no host"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Url("must not hold a user name or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::Url("must end with its host or a path"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(host) => Ok(url),
        "http" => Err(Error::Url("must be https, unless its host is loopback")),
        _ => Err(Error::Url("must be https")),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost",
    }
}

fn path(origin: &Url) -> String {
    format!("{}/api", origin.path().trim_end_matches('/'))
}

/// With room for all headers that it will have, hyper's among them.
fn begun() -> request::Builder {
    let mut request = Request::builder();
    if let Some(headers) = request.headers_mut() {
        headers.reserve(8);
    }
    request
}

/// `None` where no header can carry the key.
fn bearer(key: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(["Bearer ", key.expose()].concat()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The text as one value of a query, whatever it holds.
fn query_value(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn too_large() -> Failure {
    Failure::Broken("its answer is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> config::Upstream {
        config::Upstream {
            url: url.to_owned(),
            api_key_file: None,
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            post_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            queue_timeout: Duration::from_secs(5),
            max_body: 1000,
            max_connections: 4,
        }
    }

    #[test]
    fn the_origin_is_https_unless_it_is_loopback() {
        let table = [
            ("https://www.chaturdata.com", true),
            ("https://www.chaturdata.com/prefix/", true),
            ("http://127.0.0.1:8080", true),
            ("http://127.9.9.9", true),
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://www.chaturdata.com", false),
            ("http://localhost.evil.test", false),
            ("http://127.0.0.1.evil.test", false),
            ("http://0.0.0.0", false),
            ("https://user:pw@www.chaturdata.com", false),
            ("https://www.chaturdata.com/?a=b", false),
            ("ftp://localhost", false),
            ("www.chaturdata.com", false),
            ("", false),
        ];

        for (url, good) in table {
            assert_eq!(origin(url).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn an_upstream_on_loopback_needs_no_ca_certificates() {
        assert!(ChatUrData::new(&settings("http://127.0.0.1:9")).is_ok());
    }

    #[test]
    fn calls_stand_under_the_path_of_the_origin() {
        let table = [("https://a.test", "/api"), ("https://a.test/b/", "/b/api")];

        for (url, expected) in table {
            assert_eq!(path(&origin(url).unwrap()), expected);
        }
    }

    #[test]
    fn a_thread_id_is_one_value_of_the_query_whatever_it_holds() {
        assert_eq!(query_value("th_1-a.b~"), "th_1-a.b~");
        assert_eq!(query_value("a&b=c#d e+é%"), "a%26b%3Dc%23d%20e%2B%C3%A9%25");
    }

    #[test]
    fn a_key_that_no_header_can_carry_has_no_header() {
        assert!(bearer(&Secret::new("sk-1")).is_some_and(|value| value.is_sensitive()));
        assert!(bearer(&Secret::new("sk\r\nHost: evil")).is_none());
    }
}
