//! A built app in front of the sandbox, asked within the process under a paused clock.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::BytesMut;
use chaturdata_proxy::config::Config;
use chaturdata_proxy::conversation::resolve::Secrets;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::live::{Foundation, Runner};
use chaturdata_proxy::server::{self, Access, Parts, Stop};
use chaturdata_proxy::store::Restored;
use chaturdata_proxy::store::backend::Nowhere;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::Script;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// Requests after which it is built anew, so that what it remembers stays small.
const WORN_OUT: u32 = 512;

thread_local! {
    /// Read once: many proxies are built.
    static CONFIG: Arc<Config> = Arc::new(Config::default());
}

pub struct Proxy {
    sandbox: Sandbox,
    access: fn() -> Access,
    runtime: Runtime,
    router: Router,
    asked: u32,
}

/// A whole answer.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The body ended without its last chunk.
    pub broken: bool,
}

impl Proxy {
    pub fn new(access: fn() -> Access) -> Self {
        Self::with(access, Restored::default())
    }

    /// One that goes on from what an earlier process has left.
    pub fn with(access: fn() -> Access, restored: Restored) -> Self {
        let runtime = paused();
        let sandbox = Sandbox::new(Script::default());
        let config = CONFIG.with(Arc::clone);
        let metrics = Arc::new(Metrics::new());
        let salt = Salt::random().expect("the system has random numbers");
        let upstream = Arc::new(sandbox.clone());
        let router = runtime.block_on(async {
            let secrets = Secrets {
                salt: salt.clone(),
                ids: salt.clone(),
            };
            let foundation = Foundation {
                restored,
                ..Foundation::in_memory(upstream, secrets, Arc::clone(&metrics))
            };
            let runner = Runner::new(&config, foundation);
            server::router(Parts {
                config,
                runner,
                access: access(),
                salt,
                metrics,
                state: Arc::new(Nowhere),
                stop: Stop::default(),
            })
        });
        Self {
            sandbox,
            access,
            runtime,
            router,
            asked: 0,
        }
    }

    /// Asks with the sandbox doing as it is told.
    pub fn ask_scripted(&mut self, script: Script, request: Request<Body>) -> Reply {
        if self.asked >= WORN_OUT {
            *self = Self::new(self.access);
        }
        self.sandbox.set_script(script);
        self.ask_now(request)
    }

    pub fn ask(&mut self, request: Request<Body>) -> Reply {
        self.ask_scripted(Script::default(), request)
    }

    /// Asks the one that was asked before.
    pub fn ask_now(&mut self, request: Request<Body>) -> Reply {
        self.asked += 1;
        let asked = self.router.clone().oneshot(request);
        self.runtime.block_on(async {
            let (parts, mut body) = asked.await.expect("a router always answers").into_parts();
            let mut read = BytesMut::new();
            let mut broken = false;
            while let Some(frame) = body.frame().await {
                match frame.map(http_body::Frame::into_data) {
                    Ok(data) => read.extend_from_slice(&data.unwrap_or_default()),
                    Err(_) => broken = true,
                }
            }
            Reply {
                status: parts.status,
                headers: parts.headers,
                body: read.to_vec(),
                broken,
            }
        })
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Holds a failure against the envelope.
    pub fn assert_envelope(&self) {
        let body = self.json();
        for field in ["message", "type", "code"] {
            let value = body.pointer(&format!("/error/{field}"));
            let text = value.and_then(Value::as_str).unwrap_or_default();
            assert!(!text.is_empty(), "{}: no {field} in {body}", self.status);
        }
    }
}

/// A folder for files that are read back at once: in memory where there is such a place.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder can be made")
}

/// Time passes where everybody waits for it, and nowhere else.
pub fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be had")
}
