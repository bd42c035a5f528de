//! What becomes of the fields of a request for a response.

use serde_json::Value;

use super::table::*;

/// Every field of a request for a response, and those of ours that name a conversation.
pub const RESPONSES: &[Parameter] = &[
    honour(
        "input",
        "text, items and references to items; images, audio and files in are refused",
    ),
    MODEL,
    honour("instructions", "lead the input's own system messages"),
    STREAM,
    ignore(
        "stream_options",
        is_unobfuscated,
        "streams are never obfuscated",
    ),
    honour(
        "previous_response_id",
        "goes on from there: on the same thread, or on a new one where that has gone on",
    ),
    honour(
        "conversation",
        "the conversation's name, or an object with its `id`; it goes on from its end",
    ),
    honour("store", "`false`: the response cannot be asked for again"),
    honour("background", "the run goes on without its caller"),
    honour(
        "metadata",
        "told again while the process lives; may name the conversation, as the fields at the end do",
    ),
    emulate(
        "max_output_tokens",
        "the answer is cut by the estimate that `usage` reports",
    ),
    emulate(
        "text",
        "`format` as `response_format` of a chat; `verbosity` changes nothing",
    ),
    TOOLS,
    TOOL_CHOICE,
    PARALLEL_TOOL_CALLS,
    ignore("max_tool_calls", never, "it counts calls of built-in tools"),
    Parameter {
        refused: wants_logprobs,
        ..ignore(
            "include",
            is_empty,
            "nothing more can be told; `message.output_text.logprobs` is refused",
        )
    },
    ignore(
        "truncation",
        is_disabled,
        "what does not fit is left out by itself, oldest first",
    ),
    refuse("prompt", never, "prompt templates are not kept here"),
    TOP_LOGPROBS,
    MODERATION,
    USER,
    SAFETY_IDENTIFIER,
    TEMPERATURE,
    TOP_P,
    ignore("reasoning", is_empty, "the upstream has no such setting"),
    ignore(
        "context_management",
        is_empty,
        "the upstream has no such setting",
    ),
    SERVICE_TIER,
    PROMPT_CACHE_KEY,
    PROMPT_CACHE_OPTIONS,
    PROMPT_CACHE_RETENTION,
    CONVERSATION_ID,
    THREAD_ID,
    SESSION_ID,
    CHAT_ID,
];

fn is_disabled(value: &Value) -> bool {
    value == "disabled"
}

fn is_unobfuscated(value: &Value) -> bool {
    let options = value.as_object();
    options.is_some_and(|options| {
        let mut options = options.iter();
        options.all(|(name, value)| name == "include_obfuscation" && value == false)
    })
}

fn wants_logprobs(value: &Value) -> bool {
    let included = value.as_array();
    included.is_some_and(|included| included.iter().any(|name| name == LOGPROBS))
}

const LOGPROBS: &str = "message.output_text.logprobs";
