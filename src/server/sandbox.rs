//! The simulated upstream over HTTP, in the upstream's own wire format.

use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Query, Request};
use axum::response::{IntoResponse, Response};
use axum::{Json, RequestExt};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tower::Service;

use super::auth::bearer;
use crate::secret::Secret;
use crate::upstream::ThreadId;
use crate::upstream::sandbox::reply::{Fault, Reply};
use crate::upstream::sandbox::{self, Sandbox};

/// Serves one sandbox. An error closes the connection without an answer, as its script asks.
#[derive(Clone, Debug)]
pub struct SandboxService(pub Sandbox);

/// The connection is to be dropped.
#[derive(Debug, thiserror::Error)]
#[error("the script drops the connection")]
pub struct Dropped;

impl Service<Request> for SandboxService {
    type Response = Response;
    type Error = Dropped;
    type Future = BoxFuture<'static, Result<Response, Dropped>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Dropped>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self(sandbox) = self.clone();
        Box::pin(async move {
            let method = request.method().clone();
            match (method, request.uri().path()) {
                (Method::POST, "/api/newMessage") => new_message(&sandbox, request).await,
                (Method::GET, "/api/getThread") => get_thread(&sandbox, request).await,
                (Method::GET, "/sandbox/posts") => Ok(posts(&sandbox)),
                _ => sent(Reply::refusal(404, "no such route")).await,
            }
        })
    }
}

#[derive(Deserialize)]
struct NewMessage {
    message: String,
    thread_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetThread {
    thread_id: String,
}

/// One message that reached its thread.
#[derive(Serialize)]
struct Post {
    thread_id: String,
    message: String,
}

async fn new_message(sandbox: &Sandbox, request: Request) -> Result<Response, Dropped> {
    let key = key(request.headers());
    let request = match Json::<NewMessage>::from_request(request, &()).await {
        Ok(Json(NewMessage { message, thread_id })) => {
            sandbox::Request::NewMessage { message, thread_id }
        }
        Err(_) => {
            return sent(Reply::refusal(
                400,
                "the body is not {\"message\": \"..\"} in JSON",
            ))
            .await;
        }
    };
    sent(sandbox.answer(key.as_ref(), request).await).await
}

async fn get_thread(sandbox: &Sandbox, mut request: Request) -> Result<Response, Dropped> {
    let key = key(request.headers());
    let request = match request.extract_parts::<Query<GetThread>>().await {
        Ok(Query(GetThread { thread_id })) => sandbox::Request::GetThread { thread_id },
        Err(_) => return sent(Reply::refusal(400, "threadId is missing")).await,
    };
    sent(sandbox.answer(key.as_ref(), request).await).await
}

fn posts(sandbox: &Sandbox) -> Response {
    let post = |(thread, message): (ThreadId, String)| Post {
        thread_id: thread.to_string(),
        message,
    };
    let posts: Vec<Post> = sandbox.posts().into_iter().map(post).collect();
    Json(posts).into_response()
}

fn key(headers: &HeaderMap) -> Option<Secret> {
    let key = bearer(headers.get(AUTHORIZATION)?)?;
    str::from_utf8(key).ok().map(Secret::new)
}

/// The reply with what its fault does to it.
async fn sent(reply: Reply) -> Result<Response, Dropped> {
    let whole = reply.body.len();
    let body = match reply.fault {
        None => Body::from(reply.body),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset | Fault::Unreachable | Fault::Certificate) => return Err(Dropped),
        Some(Fault::Cut(after)) => cut(reply.body.slice(..after.min(whole))),
        Some(Fault::Endless) => endless(reply.body),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = reply.headers;
    if let Some(Fault::Cut(_)) = reply.fault {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(whole));
    }
    Ok(response)
}

/// What there is, and then the end of the connection.
fn cut(body: Bytes) -> Body {
    // hyper drops what it has not written yet when a body fails: the pause lets it write.
    let failure = stream::once(async {
        tokio::task::yield_now().await;
        Err(Dropped)
    });
    Body::from_stream(stream::iter([Ok(body)]).chain(failure))
}

fn endless(body: Bytes) -> Body {
    let white_space = stream::repeat(Bytes::from_static(&[b' '; 8192]));
    Body::from_stream(
        stream::iter([body])
            .chain(white_space)
            .map(Ok::<_, Dropped>),
    )
}
