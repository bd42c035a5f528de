//! What becomes of the fields of a legacy completion request.

use serde_json::Value;

use super::table::*;

/// Every field of a legacy completion request, and those of ours that name a conversation.
pub const COMPLETIONS: &[Parameter] = &[
    honour(
        "prompt",
        "a string, or up to 8, each a turn of its own; tokens are refused",
    ),
    MODEL,
    STREAM,
    STREAM_OPTIONS,
    STOP,
    emulate(
        "max_tokens",
        "the answer is cut by the estimate that `usage` reports; OpenAI's default of 16 is not applied",
    ),
    emulate("n", "up to 8 answers in all"),
    emulate("echo", "the answer is led by its prompt"),
    refuse("best_of", is_one, "answers are not ranked"),
    refuse("suffix", is_no_text, "nothing can be written between texts"),
    refuse("logprobs", never, "the upstream tells no probabilities"),
    USER,
    SAFETY_IDENTIFIER,
    METADATA,
    TEMPERATURE,
    TOP_P,
    FREQUENCY_PENALTY,
    PRESENCE_PENALTY,
    LOGIT_BIAS,
    SEED,
    CONVERSATION,
    CONVERSATION_ID,
    THREAD_ID,
    SESSION_ID,
    CHAT_ID,
];

fn is_no_text(value: &Value) -> bool {
    value == ""
}
