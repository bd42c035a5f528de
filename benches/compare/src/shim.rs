//! What a bare shim between OpenAI's shape and the upstream's knows, whichever library serves it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the upstream is, and how often an unfinished run is read.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long)]
    pub listen: std::net::SocketAddr,
    #[arg(long)]
    pub upstream: std::net::SocketAddr,
    /// Seconds between polls
    #[arg(long, default_value_t = 3.0)]
    pub interval: f64,
}

impl Options {
    pub fn pause(&self) -> Duration {
        Duration::from_secs_f64(self.interval)
    }
}

/// The header that names a conversation.
pub const CONVERSATION: &str = "x-conversation-id";

#[derive(Deserialize)]
pub struct ChatRequest {
    model: String,
    messages: Vec<ChatMessage>,
}

#[derive(Deserialize)]
struct ChatMessage {
    #[expect(dead_code, reason = "a shim reads the shape that it is sent")]
    role: String,
    content: String,
}

#[derive(Serialize)]
pub struct NewMessage<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
}

#[derive(Deserialize)]
pub struct Posted {
    pub thread_id: String,
}

#[derive(Deserialize)]
pub struct Thread {
    messages: Vec<Message>,
    run_status: Status,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    text: Text,
}

#[derive(Deserialize)]
struct Text {
    value: String,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

#[derive(Serialize)]
pub struct Completion {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    choices: [Choice; 1],
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Answer,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Answer {
    role: &'static str,
    content: String,
}

impl ChatRequest {
    pub fn new_message<'a>(&'a self, thread: Option<&'a str>) -> NewMessage<'a> {
        NewMessage {
            message: self.messages.last().map_or("", |last| &last.content),
            thread_id: thread,
        }
    }

    pub fn completion(self, answer: String) -> Completion {
        Completion {
            id: "chatcmpl-1".to_owned(),
            object: "chat.completion",
            created: 1_790_000_000,
            model: self.model,
            choices: [Choice {
                index: 0,
                message: Answer {
                    role: "assistant",
                    content: answer,
                },
                finish_reason: "stop",
            }],
        }
    }
}

impl Thread {
    /// The newest assistant text, once the run has ended.
    pub fn answer(self) -> Option<String> {
        if self.run_status.status != "completed" {
            return None;
        }
        let mut newest = self.messages.into_iter().rev();
        let message = newest.find(|message| message.role == "assistant")?;
        Some(message.content.into_iter().next()?.text.value)
    }
}

/// Which thread each conversation has.
#[derive(Default)]
pub struct Threads(Mutex<HashMap<String, String>>);

impl Threads {
    pub fn of(&self, conversation: Option<&str>) -> Option<String> {
        let threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.get(conversation?).cloned()
    }

    pub fn remember(&self, conversation: Option<&str>, thread: &str) {
        if let Some(conversation) = conversation {
            let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            threads.insert(conversation.to_owned(), thread.to_owned());
        }
    }
}
