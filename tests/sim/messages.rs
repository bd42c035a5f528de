//! What a caller knows of its conversation, as the messages of a request: what follows on a call is what
//! came of it.

use chaturdata_proxy::conversation::{Message, Role, ToolCall};

use crate::forms::arguments;

/// By what a caller that shows its whole history tells its calls.
const SHOWN: &str = "call_0";

/// Prompts and answers.
pub fn history(path: &[String]) -> Vec<Message> {
    let message = |(at, text): (usize, &String)| {
        if at.is_multiple_of(2) {
            prompt(&path[..at], None, text)
        } else {
            answer(text)
        }
    };
    path.iter().enumerate().map(message).collect()
}

/// What is said next. The call that was made last is told by this id.
pub fn prompt(path: &[String], call: Option<&str>, text: &str) -> Message {
    let is_result = path.last().is_some_and(|last| arguments(last).is_some());
    if !is_result {
        return Message::said(Role::User, text);
    }
    Message {
        answers: Some(call.unwrap_or(SHOWN).to_owned()),
        ..Message::said(Role::Tool, text)
    }
}

fn answer(text: &str) -> Message {
    let Some(arguments) = arguments(text) else {
        return Message::said(Role::Assistant, text);
    };
    Message {
        calls: vec![ToolCall {
            id: SHOWN.to_owned(),
            name: "say".to_owned(),
            arguments: arguments.to_owned(),
        }],
        ..Message::said(Role::Assistant, "")
    }
}
