//! Calls of functions, as a message or a delta tells of them.

use serde::Serialize;

use crate::conversation;
use crate::openai::forms::Calls;
use crate::run::{Answer, Finish};

/// The calls of an answer; nothing is told of none.
#[derive(Default, Serialize)]
pub struct Told<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Function<'a>>,
}

#[derive(Serialize)]
struct ToolCall<'a> {
    /// Which of several a delta is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> Told<'a> {
    /// All calls, as a message has them.
    pub fn whole(answer: &'a Answer, calls: Calls) -> Self {
        match calls {
            Calls::Tools => Self {
                tool_calls: answer.calls.iter().map(|call| tool(call, None)).collect(),
                function_call: None,
            },
            Calls::Function => Self {
                tool_calls: Vec::new(),
                function_call: answer.calls.first().map(function),
            },
        }
    }

    /// The calls one by one, as deltas have them.
    pub fn parts(answer: &'a Answer, calls: Calls) -> Vec<Self> {
        let several = answer.calls.iter().enumerate();
        match calls {
            Calls::Tools => several
                .map(|(index, call)| Self {
                    tool_calls: vec![tool(call, Some(index))],
                    function_call: None,
                })
                .collect(),
            Calls::Function => answer
                .calls
                .first()
                .map(|_| Self::whole(answer, calls))
                .into_iter()
                .collect(),
        }
    }
}

/// OpenAI's word for why an answer ends.
pub fn finish_reason(finish: Finish, calls: Calls) -> &'static str {
    match (finish, calls) {
        (Finish::Stop, _) => "stop",
        (Finish::Length, _) => "length",
        (Finish::Calls, Calls::Tools) => "tool_calls",
        (Finish::Calls, Calls::Function) => "function_call",
    }
}

fn tool(call: &conversation::ToolCall, index: Option<usize>) -> ToolCall<'_> {
    ToolCall {
        index,
        id: &call.id,
        r#type: "function",
        function: function(call),
    }
}

fn function(call: &conversation::ToolCall) -> Function<'_> {
    Function {
        name: &call.name,
        arguments: &call.arguments,
    }
}
