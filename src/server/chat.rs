//! `POST /v1/chat/completions`: parse, run, render.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::Version;
use http::header::HeaderName;
use http::request::Parts;
use serde::Serialize;
use tokio::time::sleep_until;

use super::error::{ApiError, KeyOwner};
use super::extract::WireJson;
use super::listener::{Outbox, Owed, Receipt, Stop};
use super::log::Note;
use super::refusal::Refusal;
use super::sse::{self, Opening};
use super::{random_hex, reply};
use crate::config;
use crate::conversation::{Decision, Plan};
use crate::openai::chat::{self, Asked, ChatRequest, Chunks};
use crate::openai::{Head, Policy};
use crate::run::apart::Hashed;
use crate::run::live::{NotStarted, Runner};
use crate::run::subscription::Subscription;
use crate::run::{self, Place, RunEvent};
use crate::store::backend::Backend;

const DRY_RUN: HeaderName = HeaderName::from_static("x-dry-run");

pub async fn create(
    State(runner): State<Runner>,
    State(policy): State<Arc<Policy>>,
    State(delivery): State<Delivery>,
    exchange: Exchange,
    wire: WireJson<ChatRequest>,
) -> Result<Response, ApiError> {
    let asked = wire
        .read(move |request, envelope| request.into_turn(envelope, &policy))
        .await??;
    if exchange.is_dry_run {
        return planned(&runner, runner.hashed(asked.turn).await, &delivery);
    }
    if asked.stream {
        exchange.check_streams()?;
    }
    let head = minted(&asked.model);
    let caller = Waiting { delivery, exchange };
    if asked.stream {
        caller.stream(&runner, asked, head).await
    } else {
        caller.answer(&runner, asked, head).await
    }
}

/// What the proxy needs to bring an answer to a caller.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub stop: Stop,
    pub stream: config::Stream,
    pub key_owner: KeyOwner,
    /// The upstream refused the key that the proxy holds, and has taken it for nothing since.
    pub key_refused: Arc<AtomicBool>,
    /// Where records outlive the process.
    pub state: Arc<dyn Backend>,
}

impl Delivery {
    /// The error as callers are told it.
    pub fn told(&self, error: run::Error) -> ApiError {
        if matches!(error, run::Error::KeyRefused(_)) && self.key_owner == KeyOwner::Proxy {
            self.key_refused.store(true, Ordering::Relaxed);
        }
        ApiError::run(error, self.key_owner)
    }

    /// Notes that the upstream took the key, if this answer shows it: one from memory does not.
    pub fn succeeded(&self, decision: Decision) {
        if !matches!(decision, Decision::Attached | Decision::Local) {
            self.key_refused.store(false, Ordering::Relaxed);
        }
    }

    fn refused(&self, refused: NotStarted) -> ApiError {
        self.told(refused.error).at(refused.place)
    }
}

/// The request apart from its body.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub note: Note,
    /// `None` within the process.
    pub outbox: Option<Arc<Outbox>>,
    version: Version,
    is_dry_run: bool,
}

impl<S: Sync> FromRequestParts<S> for Exchange {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let is_dry_run = match parts.headers.get(DRY_RUN).map(|value| value.as_bytes()) {
            None => false,
            Some(b"decision") => true,
            // Whoever asks for some dry run does not want a post.
            Some(_) => {
                return Err(ApiError::from(Refusal::Value {
                    message: "X-Dry-Run can be: decision".to_owned(),
                    param: Some("X-Dry-Run".to_owned()),
                }));
            }
        };
        Ok(Self {
            note: parts.extensions.get().cloned().unwrap_or_else(Note::new),
            outbox: parts.extensions.get().cloned(),
            version: parts.version,
            is_dry_run,
        })
    }
}

impl Exchange {
    /// Without chunks a body that breaks off looks like one that is complete.
    fn check_streams(&self) -> Result<(), Refusal> {
        if self.version < Version::HTTP_11 {
            return Err(Refusal::Unsupported {
                message: "stream needs HTTP/1.1".to_owned(),
                param: "stream".to_owned(),
            });
        }
        Ok(())
    }
}

/// A caller that is to be brought its answer.
struct Waiting {
    delivery: Delivery,
    exchange: Exchange,
}

impl Waiting {
    async fn answer(self, runner: &Runner, asked: Asked, head: Head) -> Result<Response, ApiError> {
        let started = runner.start(runner.hashed(asked.turn).await);
        let mut subscription = started.map_err(|refused| self.delivery.refused(refused))?;
        self.exchange.note.turn(&subscription);
        let answered = tokio::select! {
            biased;
            answered = subscription.answer() => answered,
            () = self.delivery.stop.closing() => Err(run::Error::ShuttingDown),
        };
        match answered {
            Ok(answer) => {
                self.delivery.succeeded(subscription.place().decision);
                let completion = chat::completion(&head, &answer, asked.prompt_tokens);
                let mut response = Json(completion).into_response();
                self.tell(&mut response, &subscription, &asked.ignored);
                Ok(self.owed(response, subscription))
            }
            Err(error) => Ok(self.failed(error, subscription)),
        }
    }

    async fn stream(self, runner: &Runner, asked: Asked, head: Head) -> Result<Response, ApiError> {
        let started = runner.start(runner.hashed(asked.turn).await);
        let mut subscription = started.map_err(|refused| self.delivery.refused(refused))?;
        self.exchange.note.turn(&subscription);
        let begin_by = self.exchange.note.arrived + self.delivery.stream.begin_within;
        let first = tokio::select! {
            biased;
            event = subscription.next() => Some(event),
            () = self.delivery.stop.closing() => Some(RunEvent::Failed(run::Error::ShuttingDown)),
            () = sleep_until(begin_by) => None,
        };
        if let Some(RunEvent::Failed(error)) = first {
            return Ok(self.failed(error, subscription));
        }
        let place = subscription.place();
        self.exchange.note.turn(&subscription);
        let opening = Opening {
            subscription,
            chunks: Chunks::new(head, asked.include_usage, asked.prompt_tokens),
            first,
        };
        let mut response = sse::respond(opening, self.delivery, self.exchange);
        reply::tell_place(response.headers_mut(), &place);
        reply::tell_notes(response.headers_mut(), &asked.ignored);
        Ok(response)
    }

    fn tell(&self, response: &mut Response, subscription: &Subscription, ignored: &[String]) {
        let place = subscription.place();
        self.exchange.note.turn(subscription);
        reply::tell_place(response.headers_mut(), &place);
        reply::tell_notes(response.headers_mut(), ignored);
    }

    fn failed(self, error: run::Error, subscription: Subscription) -> Response {
        let place = subscription.place();
        self.exchange.note.turn(&subscription);
        let response = self.delivery.told(error).at(Some(place)).into_response();
        self.owed(response, subscription)
    }

    /// The caller has what it is owed once this response is written out; where the run goes on
    /// without it (a deadline, a shutdown), the subscription knows that more is owed.
    fn owed(self, response: Response, subscription: Subscription) -> Response {
        let receipt = Receipt::new(move || subscription.delivered());
        response.map(|body| Body::new(Owed::new(body, receipt, self.exchange.outbox)))
    }
}

/// What a dry run answers.
#[derive(Serialize)]
struct Planned {
    conversation: String,
    decision: &'static str,
    posts: Option<String>,
}

fn planned(runner: &Runner, turn: Hashed, delivery: &Delivery) -> Result<Response, ApiError> {
    let plan = runner.plan(turn);
    let Plan {
        conversation,
        decision,
        posts,
    } = plan.map_err(|refused| delivery.refused(refused))?;
    let place = Place {
        conversation,
        decision,
        is_replay: false,
    };
    let planned = Planned {
        conversation: place.conversation.clone(),
        decision: decision.as_str(),
        posts,
    };
    let mut response = Json(planned).into_response();
    reply::tell_place(response.headers_mut(), &place);
    Ok(response)
}

fn minted(model: &str) -> Head {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Head {
        id: format!("chatcmpl-{}", random_hex()),
        created: now.map_or(0, |now| now.as_secs()),
        model: model.to_owned(),
    }
}
