//! `POST /v1/chat/completions`: parse, run, render.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::error::ApiError;
use super::extract::WireJson;
use super::minted;
use super::turn::{Order, Waiting};
use crate::openai::Policy;
use crate::openai::chat::{Asked, ChatRequest, Chunks};

pub async fn create(
    State(policy): State<Arc<Policy>>,
    caller: Waiting,
    wire: Box<WireJson<ChatRequest>>,
) -> Result<Response, ApiError> {
    let asked = wire.read(move |request, envelope| request.into_turn(envelope, &policy));
    let (order, chunks) = ordered(asked.await??);
    caller.serve(order, |_| chunks).await
}

fn ordered(asked: Asked) -> (Order, Chunks) {
    let head = minted("chatcmpl-", asked.model);
    let chunks = Chunks::new(
        head,
        asked.choices,
        asked.include_usage,
        asked.prompt_tokens,
    );
    let order = Order {
        turns: asked.turn.choices(asked.choices),
        stream: asked.stream,
        ignored: asked.ignored,
    };
    (order, chunks.telling(asked.calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_waits_takes_little_room() {
        type Wire = Box<WireJson<ChatRequest>>;
        fn room<F>(_: impl FnOnce(State<Arc<Policy>>, Waiting, Wire) -> F) -> usize {
            size_of::<F>()
        }

        let room = room(create);

        assert!(room <= 1024, "{room}");
    }
}
