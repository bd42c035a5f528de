//! The floor: axum and reqwest with nothing between them, and an axum that only waits.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use reqwest::Client;
use tokio::net::TcpListener;

use crate::shim::{CONVERSATION, ChatRequest, Options, Posted, Thread, Threads};

struct Floor {
    client: Client,
    upstream: SocketAddr,
    pause: Duration,
    threads: Threads,
}

pub async fn serve(options: Options) -> io::Result<()> {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().tls_certs_only(iter::empty()).no_proxy();
    let floor = Floor {
        client: client.build().map_err(io::Error::other)?,
        upstream: options.upstream,
        pause: options.pause(),
        threads: Threads::default(),
    };
    let router = Router::new()
        .route("/v1/chat/completions", post(create))
        .with_state(Arc::new(floor));
    axum::serve(TcpListener::bind(options.listen).await?, router).await
}

async fn create(
    State(floor): State<Arc<Floor>>,
    headers: HeaderMap,
    Json(request): Json<ChatRequest>,
) -> Response {
    match floor.answer(&headers, &request).await {
        Ok(answer) => Json(request.completion(answer)).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

impl Floor {
    async fn answer(&self, headers: &HeaderMap, request: &ChatRequest) -> reqwest::Result<String> {
        let conversation = headers
            .get(CONVERSATION)
            .and_then(|name| name.to_str().ok());
        let key = headers.get(AUTHORIZATION).cloned();
        let thread = self.threads.of(conversation);
        let mut posting = self
            .client
            .post(format!("http://{}/api/newMessage", self.upstream))
            .json(&request.new_message(thread.as_deref()));
        if let Some(key) = &key {
            posting = posting.header(AUTHORIZATION, key);
        }
        let posted: Posted = posting.send().await?.error_for_status()?.json().await?;
        self.threads.remember(conversation, &posted.thread_id);
        let url = format!(
            "http://{}/api/getThread?threadId={}",
            self.upstream, posted.thread_id
        );
        loop {
            let mut reading = self.client.get(&url);
            if let Some(key) = &key {
                reading = reading.header(AUTHORIZATION, key);
            }
            let thread: Thread = reading.send().await?.error_for_status()?.json().await?;
            if let Some(answer) = thread.answer() {
                return Ok(answer);
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Waits {
    #[arg(long)]
    listen: SocketAddr,
    /// After so many seconds each request is answered
    #[arg(long)]
    seconds: f64,
}

/// An axum router on hyper's own connections that only waits: the least that a waiting caller costs.
pub async fn wait(options: Waits) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let pause = Duration::from_secs_f64(options.seconds);
    let waits = move || async move {
        tokio::time::sleep(pause).await;
        "{\"choices\": [{\"message\": {\"role\": \"assistant\", \"content\": \"done\"}}]}"
    };
    let router = Router::new()
        .route("/v1/chat/completions", post(waits))
        .route("/livez", get(|| async {}));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let served = http.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            let _ = served.await;
        });
    }
}
