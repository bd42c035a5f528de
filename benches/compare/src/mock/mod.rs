//! An upstream on bare hyper: as fast as one can be, with runs that take as long as is wanted, and an
//! account of who read them when.

mod account;
pub mod threads;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use account::Report;

use account::Account;
use threads::Threads;

use crate::spread::Spread;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// How long runs take
    #[arg(long, default_value = "at-once")]
    runs: Spread,
    /// What times are multiplied with
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Characters of an answer
    #[arg(long, default_value_t = 500)]
    answer: usize,
    /// By which schedule polls are expected: seconds to the first one and between others
    #[arg(long, num_args = 2)]
    polls: Option<Vec<f64>>,
    /// They are drawn out for each thread otherwise, as the proxy does it
    #[arg(long)]
    varied: bool,
}

#[derive(Deserialize)]
struct NewMessage {
    message: String,
    thread_id: Option<String>,
}

#[derive(Serialize)]
struct Posted<'a> {
    thread_id: &'a str,
    run_status: Status,
}

#[derive(Serialize)]
struct Shown {
    messages: Vec<threads::Message>,
    run_status: Status,
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

impl Status {
    fn of(is_ready: bool) -> Self {
        Self {
            status: if is_ready { "completed" } else { "in_progress" },
        }
    }
}

struct Mock {
    threads: Threads,
    account: Account,
    /// Nothing is answered before.
    stalled: Mutex<Option<Instant>>,
}

pub async fn serve(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let mock = Arc::new(Mock {
        threads: Threads::new(threads::Course {
            runs: options.runs,
            scale: options.scale,
            answer: options.answer,
            expected: threads::Expected::new(options.polls.as_deref(), options.varied),
        }),
        account: Account::default(),
        stalled: Mutex::default(),
    });
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        stream.set_nodelay(true)?;
        let (open, mock) = (mock.account.open(), Arc::clone(&mock));
        let served = http.serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| answer(Arc::clone(&mock), request)),
        );
        tokio::spawn(async move {
            let _open = open;
            // A connection that breaks off is its peer's affair.
            let _ = served.await;
        });
    }
}

async fn answer(
    mock: Arc<Mock>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path().starts_with("/api/") {
        mock.stall_over().await;
    }
    let answered = match (request.method(), request.uri().path()) {
        (&Method::POST, "/api/newMessage") => match request.into_body().collect().await {
            Ok(body) => mock.post(&body.to_bytes()),
            Err(_) => None,
        },
        (&Method::GET, "/api/getThread") => {
            request.uri().query().and_then(|query| mock.read(query))
        }
        (&Method::GET, "/stats") => serde_json::to_vec(&mock.account.report()).ok(),
        (&Method::GET, "/stall") => {
            let seconds = request.uri().query().and_then(|query| query.parse().ok());
            mock.stall(Duration::from_secs(seconds.unwrap_or(0)));
            Some(b"{}".to_vec())
        }
        (&Method::GET, "/reset") => {
            mock.account.reset();
            Some(b"{}".to_vec())
        }
        _ => None,
    };
    let (status, body) = match answered {
        Some(body) => (StatusCode::OK, body),
        None => (StatusCode::NOT_FOUND, b"{}".to_vec()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

impl Mock {
    fn stall(&self, wait: Duration) {
        *self.stalled() = Some(Instant::now() + wait);
    }

    async fn stall_over(&self) {
        let until = *self.stalled();
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    fn stalled(&self) -> MutexGuard<'_, Option<Instant>> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, body: &[u8]) -> Option<Vec<u8>> {
        let message: NewMessage = serde_json::from_slice(body).ok()?;
        let thread = message.thread_id.as_deref();
        let (thread, takes) = self.threads.post(thread, message.message)?;
        self.account.posted(takes);
        serde_json::to_vec(&Posted {
            thread_id: &thread,
            run_status: Status::of(takes == 0.0),
        })
        .ok()
    }

    fn read(&self, query: &str) -> Option<Vec<u8>> {
        let id = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("threadId="))?;
        let (seen, messages) = self.threads.read(id)?;
        self.account.read(&seen);
        serde_json::to_vec(&Shown {
            messages,
            run_status: Status::of(seen.is_ready),
        })
        .ok()
    }
}
