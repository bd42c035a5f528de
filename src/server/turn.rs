//! From turns to what their caller is answered, whatever the endpoint: one body once all is there, a
//! stream, or what would be done.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRef, FromRequestParts};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;
use tokio::time::sleep_until;

use super::choices::Choices;
use super::error::ApiError;
use super::exchange::{Delivery, Exchange};
use super::listener::{Owed, Receipt};
use super::reply;
use super::sse::{self, Opening};
use crate::conversation::{Plan, Turn};
use crate::openai::render::Render;
use crate::run::live::Runner;
use crate::run::{self, Place, RunEvent};

/// What a request asks for, whichever endpoint it came in by.
#[derive(Debug)]
pub struct Order {
    /// One for each answer that is wanted; never empty.
    pub turns: Vec<Turn>,
    pub stream: bool,
    /// The fields that change nothing here, for `X-Ignored-Params`.
    pub ignored: Vec<String>,
}

/// A caller that is to be brought its answer.
#[derive(Debug)]
pub struct Waiting {
    runner: Runner,
    delivery: Delivery,
    exchange: Exchange,
}

impl<S: Sync> FromRequestParts<S> for Waiting
where
    Runner: FromRef<S>,
    Delivery: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Ok(Self {
            runner: Runner::from_ref(state),
            delivery: Delivery::from_ref(state),
            exchange: Exchange::from_request_parts(parts, state).await?,
        })
    }
}

impl Waiting {
    /// Carries the turns out, and answers as the caller asked.
    pub async fn serve(self, order: Order, render: impl Render) -> Result<Response, ApiError> {
        if self.exchange.is_dry_run {
            return self.planned(order.turns).await;
        }
        if order.stream {
            self.exchange.check_streams()?;
        }
        let choices = self.start(order.turns).await?;
        let mut response = if order.stream {
            self.stream(choices, render).await
        } else {
            self.answer(choices, render).await
        };
        if response.status().is_success() {
            reply::tell_notes(response.headers_mut(), &order.ignored);
        }
        Ok(response)
    }

    async fn start(&self, turns: Vec<Turn>) -> Result<Choices, ApiError> {
        let mut started = Vec::with_capacity(turns.len());
        for turn in turns {
            let subscription = self.runner.start(self.runner.hashed(turn).await);
            started.push(subscription.map_err(|refused| self.delivery.refused(refused))?);
        }
        let choices = Choices::new(started);
        self.exchange.note.turn(&choices);
        Ok(choices)
    }

    async fn answer(self, mut choices: Choices, render: impl Render) -> Response {
        let answered = tokio::select! {
            biased;
            answered = choices.answers() => answered,
            () = self.delivery.stop.closing() => Err(run::Error::ShuttingDown),
        };
        match answered {
            Ok(answers) => {
                let place = choices.place();
                self.delivery.succeeded(place.decision);
                let mut response = reply::json(render.body(&answers));
                reply::tell_place(response.headers_mut(), &place);
                self.owed(response, choices)
            }
            Err(error) => self.failed(error, choices),
        }
    }

    async fn stream(self, mut choices: Choices, render: impl Render) -> Response {
        let begin_by = self.exchange.note.arrived + self.delivery.stream.begin_within;
        let first = tokio::select! {
            biased;
            event = choices.next() => Some(event),
            () = self.delivery.stop.closing() => {
                return self.failed(run::Error::ShuttingDown, choices);
            }
            () = sleep_until(begin_by) => None,
        };
        if let Some((_, RunEvent::Failed(error))) = first {
            return self.failed(error, choices);
        }
        let place = choices.place();
        self.exchange.note.turn(&choices);
        let opening = Opening { choices, first };
        let mut response = sse::respond(opening, render, self.delivery, self.exchange);
        reply::tell_place(response.headers_mut(), &place);
        response
    }

    fn failed(self, error: run::Error, choices: Choices) -> Response {
        let place = choices.place();
        let response = self.delivery.told(error).at(Some(place)).into_response();
        self.owed(response, choices)
    }

    /// The caller has what it is owed once this response is written out; where the run goes on
    /// without it (a deadline, a shutdown), its place there knows that more is owed.
    fn owed(self, response: Response, choices: Choices) -> Response {
        self.exchange.note.turn(&choices);
        let receipt = Receipt::new(move || choices.delivered());
        response.map(|body| Body::new(Owed::new(body, receipt, self.exchange.outbox)))
    }

    async fn planned(&self, turns: Vec<Turn>) -> Result<Response, ApiError> {
        let first = turns.into_iter().next().expect("a request has a turn");
        let plan = self.runner.plan(self.runner.hashed(first).await);
        let Plan {
            conversation,
            decision,
            posts,
        } = plan.map_err(|refused| self.delivery.refused(refused))?;
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
}

/// What a dry run answers.
#[derive(Serialize)]
struct Planned {
    conversation: String,
    decision: &'static str,
    posts: Option<String>,
}
