//! A response as one body, however far it has come.

use std::sync::Arc;

use serde::Serialize;

use super::echo::Echo;
use crate::ids::ResponseId;
use crate::openai::items::{Citation, Ids, Item, Part, Side, Status};
use crate::openai::render::json;
use crate::openai::usage::Tokens;
use crate::run::{self, Answer, Finish};

/// What a response says of itself, however far it has come.
#[derive(Clone, Debug)]
pub struct Response {
    pub id: ResponseId,
    /// Seconds since the epoch.
    pub created: u64,
    /// The name the caller asked for.
    pub model: String,
    pub background: bool,
    pub previous: Option<ResponseId>,
    /// The conversation, where the request named it.
    pub conversation: Option<String>,
    pub echo: Echo,
    /// `None` where the request is forgotten: then usage is not told.
    pub prompt_tokens: Option<u64>,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug)]
pub enum State<'a> {
    /// It begins in the background.
    Queued,
    InProgress,
    Ended(&'a Answer),
    Failed(&'a Failure),
    Cancelled,
}

/// Why a response failed, as the closed list of OpenAI's codes has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    code: &'static str,
    message: String,
}

impl Failure {
    /// The message is said elsewhere: it may depend on whose key was used.
    pub fn new(error: &run::Error, message: String) -> Self {
        let code = match error {
            run::Error::RateLimited(_) | run::Error::TooManyWaiting | run::Error::TooManyRuns => {
                "rate_limit_exceeded"
            }
            run::Error::Refused(_) => "invalid_prompt",
            _ => "server_error",
        };
        Self { code, message }
    }
}

impl Response {
    /// The body of the response.
    pub fn body<'a>(&'a self, state: State<'a>) -> impl Serialize + use<'a> {
        let answer = match state {
            State::Ended(answer) => Some(answer),
            State::Queued | State::InProgress | State::Failed(_) | State::Cancelled => None,
        };
        let is_cut = answer.is_some_and(|answer| answer.finish == Finish::Length);
        Body {
            id: self.id.to_string(),
            object: "response",
            created_at: self.created,
            status: state.word(),
            background: self.background,
            error: match state {
                State::Failed(failure) => Some(failure),
                _ => None,
            },
            incomplete_details: is_cut.then_some(Details {
                reason: "max_output_tokens",
            }),
            model: &self.model,
            output: answer.map(|answer| self.output(answer)).unwrap_or_default(),
            previous_response_id: self.previous.map(|id| id.to_string()),
            conversation: self.conversation.as_deref().map(|id| Conversation { id }),
            echo: &self.echo,
            usage: answer.and_then(|answer| {
                let input_tokens = self.prompt_tokens?;
                Some(Usage::new(Tokens::of(input_tokens, answer)))
            }),
        }
    }

    /// The body of the response with its answer, the only one there is.
    pub fn whole(&self, answers: &[Arc<Answer>]) -> String {
        let answer = answers.first();
        json(&self.body(answer.map_or(State::InProgress, |answer| State::Ended(answer))))
    }

    /// The items of the answer, under the same ids whenever they are told.
    pub fn output(&self, answer: &Answer) -> Vec<Item> {
        let mut ids = self.ids();
        if !answer.calls.is_empty() {
            let calls = answer.calls.iter();
            return calls.map(|call| Item::call(call, &mut ids)).collect();
        }
        let status = match answer.finish {
            Finish::Stop | Finish::Calls => Status::Completed,
            Finish::Length => Status::Incomplete,
        };
        let text = Part::output(&answer.text, Citation::all(answer));
        vec![Item::message(ids.next("msg_"), status, vec![text])]
    }

    /// The ids of its output items.
    pub fn ids(&self) -> Ids {
        Ids::new(self.id.0, Side::Output)
    }
}

impl<'a> State<'a> {
    /// A run that was cancelled, by its caller or upstream, has not failed.
    pub fn of_failure(error: &run::Error, failure: &'a Failure) -> Self {
        match error {
            run::Error::Cancelled(_) => Self::Cancelled,
            _ => Self::Failed(failure),
        }
    }

    /// OpenAI's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Ended(answer) if answer.finish == Finish::Length => "incomplete",
            Self::Ended(_) => "completed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<&'a Failure>,
    incomplete_details: Option<Details>,
    model: &'a str,
    output: Vec<Item>,
    previous_response_id: Option<String>,
    conversation: Option<Conversation<'a>>,
    #[serde(flatten)]
    echo: &'a Echo,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Details {
    reason: &'static str,
}

#[derive(Serialize)]
struct Conversation<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    /// Not in the API's document; the SDKs' models have it.
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl Usage {
    fn new(tokens: Tokens) -> Self {
        Self {
            input_tokens: tokens.prompt,
            input_tokens_details: InputDetails {
                cached_tokens: 0,
                cache_write_tokens: 0,
            },
            output_tokens: tokens.answer,
            output_tokens_details: OutputDetails {
                reasoning_tokens: 0,
            },
            total_tokens: tokens.prompt.saturating_add(tokens.answer),
        }
    }
}

/// The body that says that a response is forgotten.
pub fn deleted(id: ResponseId) -> impl Serialize {
    Deleted {
        id: id.to_string(),
        object: "response",
        deleted: true,
    }
}

#[derive(Serialize)]
struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

/// The body of `POST /v1/responses/input_tokens`.
pub fn input_tokens(tokens: u64) -> impl Serialize {
    InputTokens {
        object: "response.input_tokens",
        input_tokens: tokens,
    }
}

#[derive(Serialize)]
struct InputTokens {
    object: &'static str,
    input_tokens: u64,
}
