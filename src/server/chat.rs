//! `POST /v1/chat/completions`: parse, run, render.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::extract::WireJson;
use super::minted;
use super::turn::{Order, Waiting};
use crate::openai::Policy;
use crate::openai::chat::{ChatRequest, Chunks};

pub async fn create(
    State(policy): State<Arc<Policy>>,
    caller: Waiting,
    wire: WireJson<ChatRequest>,
) -> Result<Response, ApiError> {
    let asked = wire
        .read(move |request, envelope| request.into_turn(envelope, &policy))
        .await??;
    let head = minted("chatcmpl-", asked.model);
    let chunks = Chunks::new(head, 1, asked.include_usage, asked.prompt_tokens);
    let order = Order {
        turns: vec![asked.turn],
        stream: asked.stream,
        ignored: asked.ignored,
    };
    caller.serve(order, chunks).await
}
