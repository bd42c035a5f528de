//! A server of few lines on loopback: bytes in, bytes out, so that an answer can be as wrong as it likes.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaturdata_proxy::clock::Moment;
use chaturdata_proxy::config;
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::chaturdata::ChatUrData;
use chaturdata_proxy::upstream::sandbox::reply::{Fault, Reply};
use chaturdata_proxy::upstream::sandbox::{Request, Sandbox};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const MAX_BODY: u64 = 64 * 1024;

/// What was received, connection by connection: heads and bodies as they came.
#[derive(Clone, Default)]
pub struct Received(Arc<Mutex<Vec<Vec<String>>>>);

impl Received {
    pub fn connections(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap().concat()
    }
}

/// A server that answers each request with the same bytes; without any, it hangs up at once.
pub async fn answering(answer: Vec<u8>) -> (String, Received) {
    let received = Received::default();
    let (listener, url) = listener().await;
    let seen = received.clone();
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = seen.0.lock().unwrap().len();
            seen.0.lock().unwrap().push(Vec::new());
            spawn(answer_all(stream, answer.clone(), seen.clone(), connection));
        }
    });
    (url, received)
}

/// A server that chooses its answer by the request, and leaves the connection open where it promises
/// more than it sends.
pub async fn choosing(answer: fn(&str) -> Vec<u8>) -> String {
    let (listener, url) = listener().await;
    spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn(async move {
                while let Some((head, _)) = request(&mut stream).await {
                    if stream.write_all(&answer(&head)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// The sandbox over HTTP.
pub async fn serving(sandbox: Sandbox) -> String {
    let (listener, url) = listener().await;
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn(serve_one(stream, sandbox.clone()));
        }
    });
    url
}

/// A client of the upstream at this URL.
pub fn client(url: &str) -> ChatUrData {
    bounded(url, MAX_BODY)
}

/// One that takes answers of so many bytes.
pub fn bounded(url: &str, max_body: u64) -> ChatUrData {
    ChatUrData::new(&settings(url, max_body)).unwrap()
}

/// One with a clock of its own on the wall.
pub fn on_wall(wall: fn() -> Moment, url: &str) -> ChatUrData {
    ChatUrData::by(wall, &settings(url, MAX_BODY)).unwrap()
}

pub fn settings(url: &str, max_body: u64) -> config::Upstream {
    config::Upstream {
        url: url.to_owned(),
        api_key_file: None,
        proxy: None,
        connect_timeout: Duration::from_secs(5),
        post_timeout: Duration::from_secs(20),
        read_timeout: Duration::from_secs(20),
        queue_timeout: Duration::from_secs(20),
        max_body,
        max_connections: 8,
    }
}

/// An answer with a whole head.
pub fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\n{headers}").into_bytes();
    write!(answer, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    answer.extend_from_slice(body);
    answer
}

pub async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the server ends with its test's runtime"
)]
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

async fn answer_all(mut stream: TcpStream, answer: Vec<u8>, seen: Received, connection: usize) {
    while let Some((head, body)) = request(&mut stream).await {
        seen.0.lock().unwrap()[connection].push(format!("{head}{body}"));
        if answer.is_empty() || stream.write_all(&answer).await.is_err() {
            return;
        }
        // An answer that promises more than it holds ends with its connection.
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        if !head.contains("Content-Length: ") || promised(head) > body.len() {
            return;
        }
    }
}

async fn serve_one(mut stream: TcpStream, sandbox: Sandbox) {
    while let Some((head, body)) = request(&mut stream).await {
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: Bearer "));
        let key = key.map(Secret::new);
        let Reply {
            status,
            headers,
            body,
            fault,
        } = sandbox.answer(key.as_ref(), call(&head, &body)).await;
        let mut fields = String::new();
        for (name, value) in &headers {
            fields.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        let whole = http(&format!("{status} X"), &fields, &body);
        let kept = match fault {
            None => whole.len(),
            Some(Fault::Cut(after)) => whole.len() - body.len() + after,
            Some(Fault::Endless) => {
                let head = format!("HTTP/1.1 200 X\r\n{fields}\r\n");
                let mut bytes = head.into_bytes();
                bytes.resize(bytes.len() + usize::try_from(2 * MAX_BODY).unwrap(), b' ');
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Some(_) => return,
        };
        if stream.write_all(&whole[..kept]).await.is_err() || kept < whole.len() {
            return;
        }
    }
}

fn call(head: &str, body: &str) -> Request {
    let target = head.split(' ').nth(1).unwrap();
    if let Some(thread_id) = target.strip_prefix("/api/getThread?threadId=") {
        return Request::GetThread {
            thread_id: thread_id.to_owned(),
        };
    }
    let body: Value = serde_json::from_str(body).unwrap();
    Request::NewMessage {
        message: body["message"].as_str().unwrap().to_owned(),
        thread_id: body["thread_id"].as_str().map(str::to_owned),
    }
}

/// One request's head and body; nothing where the connection has ended.
pub async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let (head, body) = text.split_at(end + 4);
            if body.len() >= promised(head) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => received.extend_from_slice(&bytes[..read]),
        }
    }
}

fn promised(head: &str) -> usize {
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.trim().parse().unwrap())
}
