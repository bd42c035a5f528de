//! `POST /v1/chat/completions`: parse, run, render.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::extract::WireJson;
use super::minted;
use super::refusal::Refusal;
use super::render::Render;
use super::sse::Frames;
use super::turn::{Order, Waiting};
use crate::openai::chat::{self, ChatRequest, Chunks};
use crate::openai::{Head, Policy};
use crate::run::{Answer, Place};

pub async fn create(
    State(policy): State<Arc<Policy>>,
    caller: Waiting,
    WireJson { envelope, request }: WireJson<ChatRequest>,
) -> Result<Response, ApiError> {
    let asked = request.into_turn(envelope, &policy)?;
    let head = minted("chatcmpl-", asked.model);
    let told = Completion {
        chunks: Chunks::new(head.clone(), asked.include_usage, asked.prompt_tokens),
        prompt_tokens: asked.prompt_tokens,
        head,
    };
    let order = Order {
        turns: vec![asked.turn],
        stream: asked.stream,
        ignored: asked.ignored,
    };
    caller.serve(order, told).await
}

/// How an answer is told here.
struct Completion {
    head: Head,
    prompt_tokens: u64,
    chunks: Chunks,
}

impl Render for Completion {
    fn body(&self, _: &Place, answers: &[Arc<Answer>]) -> Response {
        let [answer] = answers else {
            return ApiError::from(Refusal::Panic).into_response();
        };
        Json(chat::completion(&self.head, answer, self.prompt_tokens)).into_response()
    }

    fn begin(&mut self, _: &Place, frames: &mut Frames) {
        frames.data(&self.chunks.begin());
    }

    fn text(&mut self, _: usize, text: &str, frames: &mut Frames) {
        frames.data(&self.chunks.text(text));
    }

    fn keep_alive(&mut self, frames: &mut Frames) {
        frames.data(&self.chunks.keep_alive());
    }

    fn end(&mut self, _: usize, answer: &Answer, frames: &mut Frames) {
        for chunk in self.chunks.end(answer) {
            frames.data(&chunk);
        }
    }

    fn close(&mut self, _: &[Arc<Answer>], frames: &mut Frames) {
        frames.data("[DONE]");
    }

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.data(&error.body());
    }
}
