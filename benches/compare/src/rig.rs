//! The proxy within this process, over an upstream that completes at once: every turn's own work, and
//! nothing of sockets.

use std::fmt;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::config::Config;
use chaturdata_proxy::conversation::resolve::Secrets;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::live::{Foundation, Runner};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::server::{self, Access, Parts, Stop};
use chaturdata_proxy::store::Restored;
use chaturdata_proxy::store::backend::Backend;
use chaturdata_proxy::upstream::{
    Call, Message, NewMessage, PostError, Posted, ReadError, Role, RunStatus, Thread, ThreadId,
    Upstream,
};
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::mock::threads::{Course, Threads};
use crate::spread::Spread;

/// An upstream within this process.
pub struct AtOnce(Threads);

impl fmt::Debug for AtOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtOnce")
    }
}

impl AtOnce {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Threads::new(Course {
            runs: Spread::AtOnce,
            scale: 1.0,
            answer: 500,
            expected: None,
        })))
    }

    fn posted(&self, message: &NewMessage) -> Result<Posted, PostError> {
        let thread = message.thread.as_ref().map(|thread| &*thread.0);
        let posted = self.0.post(thread, message.text.clone());
        let (id, _) = posted.ok_or_else(|| PostError::Unsent("no such thread".to_owned()))?;
        Ok(Posted {
            thread: ThreadId(id.into()),
            status: Some(RunStatus::Completed),
            failure: None,
        })
    }

    fn thread(&self, thread: &ThreadId) -> Result<Thread, ReadError> {
        let (_, messages) = self.0.read(&thread.0).ok_or(ReadError::NoThread)?;
        let messages = messages.into_iter().map(|message| {
            let [part] = message.content;
            Message {
                id: Some(message.id),
                role: Some(if message.role == "user" {
                    Role::User
                } else {
                    Role::Assistant
                }),
                created_at: Some(message.created_at as f64),
                text: part.text.value,
                annotations: Vec::new(),
            }
        });
        Ok(Thread {
            messages: messages.collect(),
            status: Some(RunStatus::Completed),
            failure: None,
        })
    }
}

impl Upstream for AtOnce {
    fn post<'a>(
        &'a self,
        _: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        Box::pin(async move { self.posted(message) })
    }

    fn read<'a>(
        &'a self,
        _: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        Box::pin(async move { self.thread(thread) })
    }
}

/// The upstream key that every caller brings.
pub const KEY: &str = "sk-bench";

/// The proxy without its listener.
#[derive(Clone)]
pub struct Rig {
    router: Router,
    runner: Runner,
}

/// What the proxy remembers, and where.
pub struct Memory {
    pub backend: Arc<dyn Backend>,
    pub salt: Salt,
    pub restored: Restored,
}

/// An answer: the decision that was made, and the body.
pub struct Reply {
    pub decision: String,
    pub body: String,
}

impl Rig {
    pub fn new(config: Config, upstream: Arc<AtOnce>, memory: Memory) -> Self {
        let Memory {
            backend,
            salt,
            restored,
        } = memory;
        let metrics = Arc::new(Metrics::new());
        let clock = restored
            .newest()
            .map_or_else(|| Clock::at(Moment::of_wall()), Clock::at);
        let foundation = Foundation {
            upstream,
            secrets: Secrets {
                salt: salt.clone(),
                ids: Salt::fixed([2; 32]),
            },
            backend: Arc::clone(&backend),
            clock,
            restored,
            metrics: Arc::clone(&metrics),
        };
        let runner = Runner::new(&config, foundation);
        let router = server::router(Parts {
            config: Arc::new(config),
            runner: runner.clone(),
            access: Access::PassThrough,
            salt,
            metrics,
            state: backend,
            stop: Stop::default(),
        });
        Self { router, runner }
    }

    pub async fn ask(&self, conversation: &str, body: String, is_dry: bool) -> io::Result<Reply> {
        let mut request = Request::post("/v1/chat/completions")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .header("x-conversation-id", conversation);
        if is_dry {
            request = request.header("x-dry-run", "decision");
        }
        let request = request.body(Body::from(body)).map_err(io::Error::other)?;
        let response = self.router.clone().oneshot(request).await;
        let (head, body) = response.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        if head.status != 200 {
            return Err(io::Error::other(format!("status {}: {body}", head.status)));
        }
        let decision = head.headers.get("x-conversation-decision");
        let decision = decision
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        Ok(Reply {
            decision: decision.to_owned(),
            body,
        })
    }

    pub async fn shut_down(&self) {
        self.runner.shut_down().await;
    }
}
