//! `/v1/responses`: parse, run, render; and what becomes of responses that are there.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRef, FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::auth::{Caller, Gate};
use super::choices::Choices;
use super::echoes::{Echoes, Said};
use super::error::ApiError;
use super::exchange::Delivery;
use super::extract::{Asked, Segment, WireJson};
use super::refusal::Refusal;
use super::turn::{Order, Waiting};
use super::{random_bytes, reply, seconds, shown};
use crate::conversation;
use crate::ids::ResponseId;
use crate::openai::Policy;
use crate::openai::list::Paging;
use crate::openai::render::json;
use crate::openai::responses::{self, Events, Failure, ResponseRequest, Retrieval};
use crate::run::live::Runner;
use crate::run::responses::{NotCancelled, Stored};

pub async fn create(
    State(policy): State<Arc<Policy>>,
    State(echoes): State<Echoes>,
    State(delivery): State<Delivery>,
    caller: Waiting,
    wire: Box<WireJson<ResponseRequest>>,
) -> Result<Response, ApiError> {
    let (tenant, bytes) = (wire.envelope.caller.tenant, wire.length);
    let mut asked = wire
        .read(move |request, envelope| request.into_turn(envelope, &policy))
        .await??;
    let mut response = asked.response(ResponseId(random_bytes()), seconds());
    asked.turn.keep = asked.keep(response.id, response.created);
    let is_awaited = asked.stream || !asked.background;
    let order = Order {
        turns: vec![asked.turn.clone()],
        stream: asked.stream,
        ignored: std::mem::take(&mut asked.ignored),
    };
    let response = |choices: &Choices| {
        if let Some(kept) = choices.kept() {
            // Who repeats a request is told of the response that there is.
            (response.id, response.created) = (kept.id, kept.created);
            let said = Said {
                echo: response.echo.clone(),
                input: asked.input_items(kept.id),
                prompt_tokens: asked.prompt_tokens,
                bytes,
            };
            echoes.remember(tenant, kept.id, Arc::new(said));
        }
        let place = choices.place();
        response.conversation = response
            .conversation
            .map(|_| place.conversation.to_string());
        response
    };
    if is_awaited {
        let events = |choices: &Choices| Events::new(response(choices), None);
        return caller.serve(order, events).await;
    }
    let body = |choices: &mut Choices| told(&response(choices), choices, &delivery);
    caller.serve_later(order, body).await
}

pub async fn find(
    State(delivery): State<Delivery>,
    caller: Waiting,
    found: Found,
    Asked(query): Asked,
) -> Result<Response, ApiError> {
    let retrieval = Retrieval::read(&query)?;
    let (response, is_recalled) = (found.response(), found.stored.is_recalled);
    let mut choices = Choices::new(vec![found.stored.subscription]);
    if is_recalled && let Err(error) = caller.settled(&mut choices).await {
        return Ok(caller.failed(error, choices));
    }
    if retrieval.stream {
        let events = Events::new(response, retrieval.starting_after);
        return caller.follow(choices, events);
    }
    Ok(caller.show(choices, |choices| told(&response, choices, &delivery)))
}

pub async fn cancel(
    State(delivery): State<Delivery>,
    caller: Waiting,
    found: Found,
) -> Result<Response, ApiError> {
    let cancelled = found.runner.cancel(&found.caller, found.stored.kept.id);
    match cancelled.await {
        Ok(()) => {}
        Err(NotCancelled::Unknown) => return Err(unknown(&found.stored.kept.id.to_string())),
        Err(NotCancelled::NotBackground) => {
            return Err(ApiError::from(Refusal::Value {
                message: "only a response in the background can be cancelled".to_owned(),
                param: None,
            }));
        }
    }
    let response = found.response();
    let mut choices = Choices::new(vec![found.stored.subscription]);
    if found.stored.is_recalled
        && let Err(error) = caller.settled(&mut choices).await
    {
        return Ok(caller.failed(error, choices));
    }
    Ok(caller.show(choices, |choices| told(&response, choices, &delivery)))
}

pub async fn delete(State(echoes): State<Echoes>, found: Found) -> Response {
    let id = found.stored.kept.id;
    echoes.forget(found.caller.tenant, id);
    found.runner.forget_response(&found.caller, id);
    found.runner.flushed().await;
    found.tell(Json(responses::deleted(id)).into_response())
}

pub async fn input_items(found: Found, Asked(query): Asked) -> Result<Response, ApiError> {
    let items = found.said.as_ref().map(|said| said.input.clone());
    let page = Paging::read(&query)?.page(items.unwrap_or_default())?;
    Ok(found.tell(Json(page).into_response()))
}

pub async fn input_tokens(
    State(policy): State<Arc<Policy>>,
    wire: Box<WireJson<ResponseRequest>>,
) -> Result<Response, ApiError> {
    let tokens = wire
        .read(move |request, _| request.into_tokens(&policy))
        .await??;
    Ok(Json(responses::input_tokens(tokens)).into_response())
}

/// How far a response has come by now.
fn told(response: &responses::Response, choices: &mut Choices, delivery: &Delivery) -> String {
    use responses::State;
    match choices.ended() {
        None if response.background && !choices.are_accepted() => {
            json(&response.body(State::Queued))
        }
        None => json(&response.body(State::InProgress)),
        Some(Ok(answers)) => response.whole(&answers),
        Some(Err(error)) => {
            let failure = Failure::new(&error, delivery.words(&error));
            json(&response.body(State::of_failure(&error, &failure)))
        }
    }
}

/// A response that is there, for the caller whose it is.
#[derive(Debug)]
pub struct Found {
    runner: Runner,
    caller: conversation::Caller,
    stored: Stored,
    /// What its request said, while that is known.
    said: Option<Arc<Said>>,
}

impl<S: Send + Sync> FromRequestParts<S> for Found
where
    Gate: FromRef<S>,
    Runner: FromRef<S>,
    Echoes: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Caller(caller) = Caller::from_request_parts(parts, state).await?;
        let Segment(name) = Segment::<String>::from_request_parts(parts, state).await?;
        let id = ResponseId::parse(&name).ok_or_else(|| unknown(&name))?;
        let runner = Runner::from_ref(state);
        let stored = runner.response(&caller, id);
        Ok(Self {
            stored: stored.ok_or_else(|| unknown(&name))?,
            said: Echoes::from_ref(state).find(caller.tenant, id),
            runner,
            caller,
        })
    }
}

impl Found {
    fn response(&self) -> responses::Response {
        let Stored {
            kept, conversation, ..
        } = &self.stored;
        responses::Response {
            id: kept.id,
            created: kept.created,
            model: kept.model.clone(),
            background: kept.background,
            previous: kept.previous,
            conversation: kept.named.then(|| conversation.to_string()),
            echo: self
                .said
                .as_ref()
                .map(|said| said.echo.clone())
                .unwrap_or_default(),
            prompt_tokens: self.said.as_ref().map(|said| said.prompt_tokens),
        }
    }

    fn tell(&self, mut response: Response) -> Response {
        reply::tell_place(response.headers_mut(), &self.stored.subscription.place());
        response
    }
}

/// Told alike, whether the id is nobody's or another tenant's.
fn unknown(name: &str) -> ApiError {
    Refusal::NoResponse(shown(name)).into()
}
