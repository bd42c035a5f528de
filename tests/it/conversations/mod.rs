//! Which thread a turn goes to, and what is posted there.

mod decisions;
mod handles;
mod identity;
mod instructions;

use serde_json::{Value, json};

use crate::proxy::{Proxy, Reply};
use crate::talk::Talk;

/// What every message is answered with, unless the upstream is told otherwise.
const ANSWER: &str = "hello";

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// A caller that has this history, wherever it has it from.
fn resuming<'a>(proxy: &'a Proxy, messages: &[Value]) -> Talk<'a> {
    let mut talk = Talk::new(proxy);
    talk.messages = messages.to_vec();
    talk
}

/// New text alone, under a handle.
async fn adds(proxy: &Proxy, handle: &str, text: &str) -> Reply {
    let mut talk = Talk::new(proxy).header("x-conversation-id", handle);
    talk.says(text).await
}

fn conversation(reply: &Reply) -> &str {
    reply.header("x-conversation-id")
}

/// What a new thread begins with, where `one` was answered before.
fn after_one(prompt: &str) -> String {
    format!("Earlier conversation:\n\nUser: one\n\nAssistant: {ANSWER}\n\n---\n\n{prompt}")
}
