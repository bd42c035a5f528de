//! Conversations by their ids: what callers note on them and add to them, and what they hold.

mod request;

use serde::Serialize;

pub use request::ConversationRequest;

use super::metadata::Metadata;

/// The body that tells of a conversation.
pub fn conversation<'a>(
    id: &'a str,
    created: u64,
    metadata: &'a Metadata,
) -> impl Serialize + use<'a> {
    Conversation {
        id,
        object: "conversation",
        created_at: created,
        metadata,
    }
}

#[derive(Serialize)]
struct Conversation<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    metadata: &'a Metadata,
}

/// The body that says that a conversation is forgotten.
pub fn deleted(id: &str) -> impl Serialize {
    Deleted {
        id,
        object: "conversation.deleted",
        deleted: true,
    }
}

#[derive(Serialize)]
struct Deleted<'a> {
    id: &'a str,
    object: &'static str,
    deleted: bool,
}
