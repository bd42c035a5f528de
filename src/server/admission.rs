//! How many callers may wait for an answer, in all and with one key: whoever is beyond that is told
//! when to come back, before its body is taken in.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, Request};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::{Layer, Service};

use super::auth::{Caller, Gate};
use super::error::ApiError;
use super::extract::BodyLimits;
use super::refusal::Refusal;
use crate::config;
use crate::metrics::{Metrics, Shed};
use crate::run::live::Runner;
use crate::run::share::{Full, Share, Shares};

/// A body that is not wanted is read over where it is so short and there so soon, which keeps the
/// connection usable.
const READ_OVER: u64 = 64 * 1024;
const READ_OVER_WITHIN: Duration = Duration::from_millis(250);

/// Lets callers in.
#[derive(Clone, Debug)]
pub struct Admission {
    seats: Shares,
    turned_away: Arc<AtomicU32>,
    metrics: Arc<Metrics>,
}

impl Admission {
    pub fn new(settings: &config::Server, metrics: Arc<Metrics>) -> Self {
        Self {
            seats: Shares::new(settings.max_waiting, settings.max_waiting_per_key),
            turned_away: Arc::default(),
            metrics,
        }
    }

    fn refusal(&self, full: Full) -> Refusal {
        let wait = self.wait();
        match full {
            Full::Tenant => {
                self.metrics.shed(Shed::Key);
                Refusal::TooManyWaiting(wait)
            }
            Full::All => {
                self.metrics.shed(Shed::All);
                Refusal::Overloaded(wait)
            }
        }
    }

    async fn refuse(&self, full: Full, headers: &HeaderMap, body: Body) -> Response {
        let is_read = read_over(headers, body).await;
        let mut response = ApiError::from(self.refusal(full)).into_response();
        if !is_read {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// Between 2 s and 6 s, another for each, so that those who are turned away together do not come
    /// back together.
    fn wait(&self) -> Duration {
        let count = self.turned_away.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs(2 + u64::from(count.wrapping_mul(3) % 5))
    }
}

/// The layer around every handler that waits for an answer.
#[derive(Clone)]
pub struct Admit<A>(pub A);

impl<A: Clone, S> Layer<S> for Admit<A> {
    type Service = Admitted<A, S>;

    fn layer(&self, inner: S) -> Admitted<A, S> {
        Admitted {
            inner,
            app: self.0.clone(),
        }
    }
}

/// A service that waits for answers, and callers that are let in to it.
#[derive(Clone)]
pub struct Admitted<A, S> {
    inner: S,
    app: A,
}

impl<A, S> Service<Request> for Admitted<A, S>
where
    S: Service<Request, Response = Response>,
    S::Future: Unpin,
    Admission: FromRef<A>,
    BodyLimits: FromRef<A>,
    Gate: FromRef<A>,
    Runner: FromRef<A>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let caller = match Caller::of(&parts, &self.app) {
            Ok(caller) => caller,
            Err(refusal) => {
                let refused = ApiError::from(refusal).into_response();
                return Answering::Refused(Box::pin(ready(refused)));
            }
        };
        let limits = BodyLimits::from_ref(&self.app);
        // One whose length is not told may be as long as is allowed; one that is too long is refused.
        let bytes = told_length(&parts.headers, &body).map_or(limits.bytes, |told| {
            if told > limits.bytes { 0 } else { told }
        });
        let admission = Admission::from_ref(&self.app);
        let seat = match admission.seats.take(caller.0.tenant, bytes) {
            Ok(seat) => Arc::new(seat),
            Err(full) => {
                let refusing = async move { admission.refuse(full, &parts.headers, body).await };
                return Answering::Refused(Box::pin(refusing));
            }
        };
        parts.extensions.insert(caller);
        // Whoever reads the body knows how much of the seat it needs.
        parts.extensions.insert(seat.clone());
        Answering::LetIn {
            answering: self.inner.call(Request::from_parts(parts, body)),
            seat,
        }
    }
}

/// What is answered to a caller that was let in, or was not.
pub enum Answering<F> {
    LetIn { answering: F, seat: Arc<Share> },
    Refused(BoxFuture<'static, Response>),
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response, E>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::LetIn { answering, seat } => {
                let response = ready!(Pin::new(answering).poll(context))?;
                let seated = |body| {
                    Body::new(Seated {
                        body,
                        _seat: Arc::clone(seat),
                    })
                };
                Poll::Ready(Ok(response.map(seated)))
            }
            Self::Refused(refusing) => refusing.as_mut().poll(context).map(Ok),
        }
    }
}

fn told_length(headers: &HeaderMap, body: &Body) -> Option<u64> {
    let told = headers.get(CONTENT_LENGTH);
    told.and_then(|length| length.to_str().ok()?.parse().ok())
        .or(body.size_hint().exact())
}

/// Whether nothing of the body is left to come.
async fn read_over(headers: &HeaderMap, body: Body) -> bool {
    // Who waits for a `100 Continue` shall not send at all.
    let is_short = told_length(headers, &body).is_some_and(|length| length <= READ_OVER);
    if !is_short || headers.contains_key(EXPECT) {
        return false;
    }
    let mut body = body;
    let reading = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    timeout(READ_OVER_WITHIN, reading).await.unwrap_or(false)
}

/// A response's body, whose caller counts as waiting until all of it is taken or the caller is gone.
#[derive(Debug)]
struct Seated {
    body: Body,
    _seat: Arc<Share>,
}

impl http_body::Body for Seated {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
