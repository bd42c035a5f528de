//! The pair: hyper's server and hyper's client, with nothing above them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;

use crate::shim::{CONVERSATION, ChatRequest, Options, Posted, Thread, Threads};

struct Pair {
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: SocketAddr,
    pause: Duration,
    threads: Threads,
}

pub async fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pair = Arc::new(Pair {
        client: Client::builder(TokioExecutor::new()).build(connector),
        upstream: options.upstream,
        pause: options.pause(),
        threads: Threads::default(),
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        stream.set_nodelay(true)?;
        let pair = Arc::clone(&pair);
        let served = http1::Builder::new().serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| create(Arc::clone(&pair), request)),
        );
        tokio::spawn(async move {
            let _ = served.await;
        });
    }
}

async fn create(
    pair: Arc<Pair>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::default();
    match pair.answer(request).await {
        Ok(body) => *response.body_mut() = Full::new(body),
        Err(error) => {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            *response.body_mut() = Full::new(Bytes::from(error.to_string()));
        }
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

impl Pair {
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Bytes> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let request: ChatRequest = serde_json::from_slice(&body)?;
        let conversation = head.headers.get(CONVERSATION);
        let conversation = conversation.and_then(|name| name.to_str().ok());
        let thread = self.threads.of(conversation);
        let message = serde_json::to_vec(&request.new_message(thread.as_deref()))?;
        let posting = Request::post(format!("http://{}/api/newMessage", self.upstream));
        let posted: Posted = self
            .call(&head.headers, posting, Bytes::from(message))
            .await?;
        self.threads.remember(conversation, &posted.thread_id);
        let url = format!(
            "http://{}/api/getThread?threadId={}",
            self.upstream, posted.thread_id
        );
        loop {
            let reading = Request::get(&url);
            let thread: Thread = self.call(&head.headers, reading, Bytes::new()).await?;
            if let Some(answer) = thread.answer() {
                return Ok(serde_json::to_vec(&request.completion(answer))?.into());
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        mut request: http::request::Builder,
        body: Bytes,
    ) -> io::Result<T> {
        if let Some(key) = headers.get(AUTHORIZATION) {
            request = request.header(AUTHORIZATION, key);
        }
        let request = request
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(io::Error::other)?;
        if answer.status() != StatusCode::OK {
            return Err(io::Error::other(answer.status().to_string()));
        }
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(io::Error::other)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}
