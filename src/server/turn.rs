//! From turns to what their caller is answered, whatever the endpoint: one body once all is there, a
//! stream, or what would be done.

use std::sync::Arc;

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
use crate::form::{Form, Kind};
use crate::openai::render::Render;
use crate::run::live::Runner;
use crate::run::{self, Answer, Place, RunEvent};

/// What a request asks for, whichever endpoint it came in by.
#[derive(Debug)]
pub struct Order {
    /// One for each answer that is wanted; never empty.
    pub turns: Vec<Turn>,
    pub stream: bool,
    /// The fields that change nothing here, for `X-Ignored-Params`.
    pub ignored: Vec<String>,
}

impl Order {
    /// What the answers must look like.
    fn form(&self) -> Kind {
        let form = self.turns.first().and_then(|turn| turn.form.as_deref());
        form.map_or(Kind::Text, Form::kind)
    }
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
    /// Carries the turns out, and answers as the caller asked. The answer is worded by what is made of
    /// the places at their runs.
    ///
    /// Callers wait here by the thousand: what comes before the wait is boxed, and gone when it begins.
    pub async fn serve<R: Render>(
        &self,
        order: Order,
        render: impl FnOnce(&Choices) -> R,
    ) -> Result<Response, ApiError> {
        let kind = order.form();
        let Order {
            turns,
            stream,
            ignored,
        } = order;
        if self.exchange.is_dry_run {
            return Box::pin(self.planned(turns)).await;
        }
        if stream {
            self.exchange.check_streams()?;
        }
        let mut choices = Box::pin(self.start(turns)).await?;
        let render = Box::new(render(&choices));
        let mut response = if stream {
            match self.begun(&mut choices).await {
                Ok(first) => self.opened(choices, first, *render),
                Err(error) => self.failed(error, choices),
            }
        } else {
            match self.answers(&mut choices).await {
                Ok(answers) => self.answered(choices, render.body(&answers)),
                Err(error) => self.failed(error, choices),
            }
        };
        note(&mut response, kind, &ignored);
        Ok(response)
    }

    /// Carries the turns out, and answers once they are under way, or have waited long enough: their
    /// caller knows how to ask for their answers.
    pub async fn serve_later(
        &self,
        order: Order,
        body: impl FnOnce(&mut Choices) -> String,
    ) -> Result<Response, ApiError> {
        if self.exchange.is_dry_run {
            return Box::pin(self.planned(order.turns)).await;
        }
        let kind = order.form();
        let mut choices = Box::pin(self.start(order.turns)).await?;
        match self.begun(&mut choices).await {
            // What came of it is to be asked for, however soon it came.
            Err(error) if !error.stands() => return Ok(self.failed(error, choices)),
            Ok(_) | Err(_) => {}
        }
        let place = choices.place();
        self.exchange.note.turn(&choices);
        let mut response = reply::json(body(&mut choices));
        reply::tell_place(response.headers_mut(), &place);
        note(&mut response, kind, &order.ignored);
        let receipt = Receipt::new(move || choices.acknowledged());
        Ok(self.receipted(response, receipt))
    }

    /// Tells how far runs have come that are there.
    pub fn show(
        &self,
        mut choices: Choices,
        body: impl FnOnce(&mut Choices) -> String,
    ) -> Response {
        let kind = form(&choices);
        let mut response = reply::json(body(&mut choices));
        reply::tell_place(response.headers_mut(), &choices.place());
        note(&mut response, kind, &[]);
        self.owed(response, choices)
    }

    /// Tells runs that are there as a stream, from their beginning on.
    pub fn follow(&self, choices: Choices, render: impl Render) -> Result<Response, ApiError> {
        self.exchange.check_streams()?;
        let kind = form(&choices);
        let mut response = self.opened(choices, None, render);
        note(&mut response, kind, &[]);
        Ok(response)
    }

    /// Waits for answers that were there before, and are there again in a moment.
    pub async fn settled(&self, choices: &mut Choices) -> Result<(), run::Error> {
        tokio::select! {
            biased;
            settled = choices.settled() => settled,
            () = self.delivery.stop.closing() => Err(run::Error::ShuttingDown),
        }
    }

    pub fn failed(&self, error: run::Error, choices: Choices) -> Response {
        let place = choices.place();
        let response = self.delivery.told(error).at(Some(place)).into_response();
        self.owed(response, choices)
    }

    async fn start(&self, turns: Vec<Turn>) -> Result<Choices, ApiError> {
        let mut turns = turns.into_iter();
        let first = turns.next().expect("a request has a turn");
        let first = self.runner.hashed(first).await;
        let started = self.runner.start_all(first, turns.collect());
        let choices = Choices::new(started.map_err(|refused| self.delivery.refused(refused))?);
        self.exchange.note.turn(&choices);
        Ok(choices)
    }

    async fn answers(&self, choices: &mut Choices) -> Result<Vec<Arc<Answer>>, run::Error> {
        let answered = tokio::select! {
            biased;
            answered = choices.answers() => answered,
            () = self.delivery.stop.closing() => Err(run::Error::ShuttingDown),
        };
        self.runner.next_stage().await;
        answered
    }

    fn answered(&self, choices: Choices, body: String) -> Response {
        let place = choices.place();
        self.delivery.succeeded(place.decision);
        let mut response = reply::json(body);
        reply::tell_place(response.headers_mut(), &place);
        self.owed(response, choices)
    }

    /// What happens first, if it happens soon enough for a caller that shall not wait.
    async fn begun(&self, choices: &mut Choices) -> Result<Option<(usize, RunEvent)>, run::Error> {
        let begin_by = self.exchange.note.arrived + self.delivery.stream.begin_within;
        let first = tokio::select! {
            biased;
            event = choices.next() => Some(event),
            () = self.delivery.stop.closing() => return Err(run::Error::ShuttingDown),
            () = sleep_until(begin_by) => None,
        };
        match first {
            Some((_, RunEvent::Failed(error))) => Err(error),
            first => Ok(first),
        }
    }

    fn opened(
        &self,
        choices: Choices,
        first: Option<(usize, RunEvent)>,
        render: impl Render,
    ) -> Response {
        let place = choices.place();
        self.exchange.note.turn(&choices);
        let opening = Opening { choices, first };
        let mut response = sse::respond(
            opening,
            render,
            self.delivery.clone(),
            self.exchange.clone(),
        );
        reply::tell_place(response.headers_mut(), &place);
        response
    }

    /// The caller has what it is owed once this response is written out; where the run goes on
    /// without it (a deadline, a shutdown), its place there knows that more is owed.
    fn owed(&self, response: Response, choices: Choices) -> Response {
        self.exchange.note.turn(&choices);
        self.receipted(response, Receipt::new(move || choices.delivered()))
    }

    fn receipted(&self, response: Response, receipt: Receipt) -> Response {
        let outbox = self.exchange.outbox.clone();
        response.map(|body| Body::new(Owed::new(body, receipt, outbox)))
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
            conversation: place.conversation.to_string(),
            decision: decision.as_str(),
            posts,
        };
        let mut response = Json(planned).into_response();
        reply::tell_place(response.headers_mut(), &place);
        Ok(response)
    }
}

/// The form that a response is remembered to have been asked for in.
fn form(choices: &Choices) -> Kind {
    choices.kept().map_or(Kind::Text, |kept| kept.form)
}

/// What is told beside an answer. Errors stand for themselves.
fn note(response: &mut Response, kind: Kind, ignored: &[String]) {
    let is_success = response.status().is_success();
    let headers = response.headers_mut();
    reply::tell_form(headers, kind);
    if is_success {
        reply::tell_notes(headers, ignored);
    }
}

/// What a dry run answers.
#[derive(Serialize)]
struct Planned {
    conversation: String,
    decision: &'static str,
    posts: Option<String>,
}
