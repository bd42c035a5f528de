//! The table itself: every field, and which of its values ask for something.

use serde::Serialize;
use serde_json::Value;

use crate::openai::names::HANDLE_FIELDS;

/// A field of a request, and what becomes of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parameter {
    pub name: &'static str,
    pub treatment: Treatment,
    pub note: &'static str,
    /// Values that ask for what comes anyway: neither told nor refused.
    #[serde(skip)]
    pub usual: fn(&Value) -> bool,
    /// Values that would change what the answer means, and cannot be had.
    #[serde(skip)]
    pub refused: fn(&Value) -> bool,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Treatment {
    /// It does what OpenAI says it does.
    Honoured,
    /// The upstream has no such thing; the proxy does it.
    Emulated,
    /// It changes nothing, and `X-Ignored-Params` says so.
    Ignored,
    /// Any value but the usual one is answered with 400.
    Refused,
}

impl Treatment {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Emulated => "emulated",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

/// Every field of a chat completion request, and those of ours that name a conversation.
pub const CHAT: &[Parameter] = &[
    honour("messages", "text; images, audio and files in are refused"),
    MODEL,
    STREAM,
    STREAM_OPTIONS,
    STOP,
    emulate(
        "max_completion_tokens",
        "the answer is cut by the estimate that `usage` reports",
    ),
    emulate(
        "max_tokens",
        "as `max_completion_tokens`; of the two the smaller",
    ),
    emulate(
        "n",
        "up to 8; the first answer is the conversation's, the others are asked for beside it",
    ),
    emulate(
        "response_format",
        "`json_object` and `json_schema`; what is answered is valid, or it is an error",
    ),
    TOOLS,
    TOOL_CHOICE,
    PARALLEL_TOOL_CALLS,
    emulate("functions", "as `tools`, one call at a time"),
    emulate("function_call", "as `tool_choice`"),
    refuse("logprobs", is_false, "the upstream tells no probabilities"),
    TOP_LOGPROBS,
    refuse("modalities", is_text_alone, "only `[\"text\"]` can be had"),
    refuse("audio", never, "answers are text"),
    refuse(
        "web_search_options",
        never,
        "answers come from the connected data sources, never from the web",
    ),
    MODERATION,
    USER,
    SAFETY_IDENTIFIER,
    METADATA,
    TEMPERATURE,
    TOP_P,
    FREQUENCY_PENALTY,
    PRESENCE_PENALTY,
    LOGIT_BIAS,
    SEED,
    ignore(
        "reasoning_effort",
        never,
        "the upstream has no such setting",
    ),
    ignore("verbosity", is_medium, "the upstream has no such setting"),
    ignore("prediction", never, "the upstream takes no predictions"),
    SERVICE_TIER,
    ignore("store", is_false, "completions are not stored"),
    PROMPT_CACHE_KEY,
    PROMPT_CACHE_OPTIONS,
    PROMPT_CACHE_RETENTION,
    CONVERSATION,
    CONVERSATION_ID,
    THREAD_ID,
    SESSION_ID,
    CHAT_ID,
];

// Rows that stand in more than one table.
pub const METADATA: Parameter = ignore(
    "metadata",
    is_names_alone,
    "may name the conversation, as the fields at the end do; the rest changes nothing",
);
pub const USER: Parameter = honour("user", "keeps the conversations of different users apart");
pub const SAFETY_IDENTIFIER: Parameter = honour(
    "safety_identifier",
    "keeps the conversations of different users apart",
);
pub const TEMPERATURE: Parameter =
    ignore("temperature", is_one, "the upstream has no such setting");
pub const TOP_P: Parameter = ignore("top_p", is_one, "the upstream has no such setting");
pub const FREQUENCY_PENALTY: Parameter = ignore(
    "frequency_penalty",
    is_zero,
    "the upstream has no such setting",
);
pub const PRESENCE_PENALTY: Parameter = ignore(
    "presence_penalty",
    is_zero,
    "the upstream has no such setting",
);
pub const LOGIT_BIAS: Parameter =
    ignore("logit_bias", is_empty, "the upstream has no such setting");
pub const SEED: Parameter = ignore("seed", never, "the upstream has no such setting");
pub const SERVICE_TIER: Parameter = ignore("service_tier", is_default_tier, "there is one tier");
pub const PROMPT_CACHE_KEY: Parameter = ignore("prompt_cache_key", never, "nothing is cached");
pub const PROMPT_CACHE_OPTIONS: Parameter =
    ignore("prompt_cache_options", never, "nothing is cached");
pub const PROMPT_CACHE_RETENTION: Parameter =
    ignore("prompt_cache_retention", never, "nothing is cached");
pub const MODERATION: Parameter = refuse("moderation", never, "nothing is moderated");
pub const MODEL: Parameter = honour("model", "any name, unless `models.strict` is on");
pub const STREAM: Parameter = honour("stream", "text arrives as the upstream's answer grows");
pub const STREAM_OPTIONS: Parameter = honour(
    "stream_options",
    "`include_usage`; other options change nothing",
);
pub const STOP: Parameter = emulate("stop", "up to 4; the answer is cut before the first");
pub const CONVERSATION_ID: Parameter =
    honour("conversation_id", "not OpenAI's: the conversation's name");
pub const THREAD_ID: Parameter = honour(
    "thread_id",
    "not OpenAI's: the conversation's name, never an upstream id",
);
pub const SESSION_ID: Parameter = honour("session_id", "not OpenAI's: the conversation's name");
pub const CHAT_ID: Parameter = honour("chat_id", "not OpenAI's: the conversation's name");
pub const TOP_LOGPROBS: Parameter = refuse(
    "top_logprobs",
    is_zero,
    "the upstream tells no probabilities",
);
pub const TOOLS: Parameter = emulate(
    "tools",
    "functions are called in words; where they need not be, as `tools.auto` says; built-in tools change nothing",
);
pub const TOOL_CHOICE: Parameter = emulate(
    "tool_choice",
    "a call that is demanded comes, or it is an error; built-in tools cannot be demanded",
);
pub const PARALLEL_TOOL_CALLS: Parameter =
    emulate("parallel_tool_calls", "`false`: one call at a time");
pub const CONVERSATION: Parameter = honour(
    "conversation",
    "not OpenAI's: the conversation's name, or an object with its `id`",
);
/// What becomes of one value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Served,
    Ignored,
    Refused,
}

impl Parameter {
    pub fn judge(&self, value: &Value) -> Verdict {
        if (self.usual)(value) {
            return Verdict::Served;
        }
        match self.treatment {
            Treatment::Refused => Verdict::Refused,
            _ if (self.refused)(value) => Verdict::Refused,
            Treatment::Ignored => Verdict::Ignored,
            Treatment::Honoured | Treatment::Emulated => Verdict::Served,
        }
    }
}

pub const fn honour(name: &'static str, note: &'static str) -> Parameter {
    Parameter {
        name,
        treatment: Treatment::Honoured,
        note,
        usual: never,
        refused: never,
    }
}

pub const fn emulate(name: &'static str, note: &'static str) -> Parameter {
    Parameter {
        name,
        treatment: Treatment::Emulated,
        note,
        usual: never,
        refused: never,
    }
}

pub const fn ignore(
    name: &'static str,
    usual: fn(&Value) -> bool,
    note: &'static str,
) -> Parameter {
    Parameter {
        name,
        treatment: Treatment::Ignored,
        note,
        usual,
        refused: never,
    }
}

pub const fn refuse(
    name: &'static str,
    usual: fn(&Value) -> bool,
    note: &'static str,
) -> Parameter {
    Parameter {
        name,
        treatment: Treatment::Refused,
        note,
        usual,
        refused: never,
    }
}

pub fn never(_: &Value) -> bool {
    false
}

pub fn is_false(value: &Value) -> bool {
    value == false
}

pub fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

pub fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_medium(value: &Value) -> bool {
    value == "medium"
}

fn is_default_tier(value: &Value) -> bool {
    value == "auto" || value == "default"
}

pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn is_text_alone(value: &Value) -> bool {
    let modalities = value.as_array().map(Vec::as_slice);
    matches!(modalities, Some([only]) if only == "text")
}

fn is_names_alone(value: &Value) -> bool {
    let names = value.as_object();
    names.is_some_and(|names| {
        names
            .keys()
            .all(|name| HANDLE_FIELDS.contains(&name.as_str()))
    })
}
