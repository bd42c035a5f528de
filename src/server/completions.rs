//! `POST /v1/completions`: parse, run, render.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::extract::WireJson;
use super::minted;
use super::turn::{Order, Waiting};
use crate::openai::Policy;
use crate::openai::completions::{Asked, Chunks, CompletionRequest};

pub async fn create(
    State(policy): State<Arc<Policy>>,
    caller: Waiting,
    wire: Box<WireJson<CompletionRequest>>,
) -> Result<Response, ApiError> {
    let asked = wire.read(move |request, envelope| request.into_turns(envelope, &policy));
    let (order, chunks) = ordered(asked.await??);
    caller.serve(order, |_| chunks).await
}

fn ordered(asked: Asked) -> (Order, Chunks) {
    let head = minted("cmpl-", asked.model);
    let chunks = Chunks::new(head, asked.include_usage, asked.echoes, asked.prompt_tokens);
    let order = Order {
        turns: asked.turns,
        stream: asked.stream,
        ignored: asked.ignored,
    };
    (order, chunks)
}
