//! The messages of a chat, as they are to a turn.

use super::request::{Called, Message, Sent, ToolCall};
use crate::conversation::known::KnownOf;
use crate::conversation::{self, Role};
use crate::openai::Error;
use crate::openai::content::Place;
use crate::openai::messages::{Author, Entry, Split};
use crate::run::tokens::estimate;

/// Takes the messages apart, or says which of them cannot be used. What is new is remembered.
pub fn split(messages: Vec<Sent>, known: Option<&KnownOf>) -> Result<Split, Error> {
    let entries = messages.into_iter().enumerate();
    let entries = entries.map(|(index, message)| match message {
        Sent::Known(role, text) => Ok(Entry::Said(conversation::Message::said(role, text))),
        Sent::New(message, hash) => {
            let mut entry = entry(*message, Place { list: LIST, index })?;
            if let (Entry::Said(said), Some(hash), Some(known)) = (&mut entry, hash, known) {
                let tokens = estimate(&said.text);
                known.learn(hash, said, tokens);
            }
            Ok(entry)
        }
    });
    Split::of_each(entries, LIST)
}

pub const LIST: &str = "messages";

pub fn entry(message: Message, place: Place) -> Result<Entry, Error> {
    let Some(role) = message.role.as_deref() else {
        let path = place.of("role");
        return Err(Error::invalid(&path, format!("{path} is missing")));
    };
    if let Some(author) = Author::of(role) {
        let text = place.needed("content", message.content)?;
        return Ok(Entry::Instructions(author, text));
    }
    match role {
        "user" => {
            let text = place.needed("content", message.content)?;
            Ok(Entry::Said(conversation::Message::said(Role::User, text)))
        }
        "assistant" => assistant(message, place).map(Entry::Said),
        "tool" => {
            let text = place.text("content", message.content)?.unwrap_or_default();
            Ok(Entry::Said(conversation::Message {
                answers: message.tool_call_id,
                ..conversation::Message::said(Role::Tool, text)
            }))
        }
        "function" => {
            let text = place.text("content", message.content)?.unwrap_or_default();
            Ok(Entry::Said(conversation::Message {
                answers: message.name,
                ..conversation::Message::said(Role::Tool, text)
            }))
        }
        _ => Err(Error::invalid(
            place.of("role"),
            format!(
                "{} must be one of system, developer, user, assistant, tool and function",
                place.of("role")
            ),
        )),
    }
}

fn assistant(message: Message, place: Place) -> Result<conversation::Message, Error> {
    if message.spoken {
        let path = place.of("audio");
        let message = format!("{path} names a spoken answer, which is not known here");
        return Err(Error::unsupported(path, message));
    }
    let content = place.text("content", message.content)?;
    let refusal = message.refusal.filter(|text| !text.is_empty());
    let text = match (content.filter(|text| !text.is_empty()), refusal) {
        (Some(content), Some(refusal)) => format!("{content}\n{refusal}"),
        (content, refusal) => content.or(refusal).unwrap_or_default(),
    };
    let mut calls = Vec::new();
    for (index, call) in message.tool_calls.into_iter().enumerate() {
        calls.push(tool_call(call, &place.of(&format!("tool_calls[{index}]")))?);
    }
    if let Some(called) = message.function_call {
        let id = called.name.clone();
        let call = ToolCall {
            id,
            called: Some(called),
        };
        calls.push(tool_call(call, &place.of("function_call"))?);
    }
    Ok(conversation::Message {
        calls,
        ..conversation::Message::said(Role::Assistant, text)
    })
}

fn tool_call(call: ToolCall, path: &str) -> Result<conversation::ToolCall, Error> {
    let Some(Called {
        name: Some(name),
        arguments,
    }) = call.called
    else {
        let message = format!("{path} must name the function that was called");
        return Err(Error::invalid(path, message));
    };
    Ok(conversation::ToolCall {
        id: call.id.unwrap_or_default(),
        name,
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::request::ChatRequest;
    use super::*;

    fn taken_apart(messages: &Value) -> Result<Split, Error> {
        let request: ChatRequest = serde_json::from_value(json!({ "messages": messages })).unwrap();
        split(request.messages, None)
    }

    /// Role and text of each message, for comparing.
    fn lines(messages: &[conversation::Message]) -> Vec<(Role, &str)> {
        let lines = messages.iter();
        lines
            .map(|message| (message.role, &*message.text))
            .collect()
    }

    #[test]
    fn instructions_are_gathered_from_wherever_they_stand() {
        let split = taken_apart(&json!([
            {"role": "system", "content": "One."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
            {"role": "system", "content": " "},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        ]))
        .unwrap();

        assert_eq!(split.instructions.as_deref(), Some("One.\n\nTwo."));
        assert_eq!(
            lines(&split.history),
            [(Role::User, "a"), (Role::Assistant, "b")]
        );
        assert_eq!(lines(&split.prompt), [(Role::User, "c")]);
    }

    #[test]
    fn all_user_and_tool_messages_at_the_end_are_the_prompt() {
        let split = taken_apart(&json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "b"},
            {"role": "user", "name": "jane", "content": [
                {"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
        ]))
        .unwrap();

        assert_eq!(
            lines(&split.history),
            [(Role::User, "a"), (Role::Assistant, "")]
        );
        assert_eq!(split.history[1].calls[0].id, "call_1");
        assert_eq!(
            lines(&split.prompt),
            [(Role::Tool, "b"), (Role::User, "c\nd")]
        );
        assert_eq!(split.prompt[0].answers.as_deref(), Some("call_1"));
    }

    #[test]
    fn a_function_of_old_is_a_tool_called_by_its_name() {
        let split = taken_apart(&json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "b"},
        ]))
        .unwrap();

        assert_eq!(split.history[1].calls[0].id, "f");
        assert_eq!(split.prompt[0].role, Role::Tool);
        assert_eq!(split.prompt[0].answers.as_deref(), Some("f"));
    }

    #[test]
    fn a_refusal_is_what_the_assistant_said() {
        for message in [
            json!({"role": "assistant", "content": null, "refusal": "No."}),
            json!({"role": "assistant", "content": "", "refusal": "No."}),
            json!({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}),
        ] {
            let split = taken_apart(&json!([message, {"role": "user", "content": "a"}])).unwrap();

            assert_eq!(lines(&split.history), [(Role::Assistant, "No.")]);
        }
    }

    fn check_refused(messages: &Value, reason: crate::openai::Reason, param: &str) {
        let error = taken_apart(messages).map(drop).unwrap_err();

        assert_eq!(error.param.as_deref(), Some(param), "{messages}");
        assert_eq!(error.reason, reason, "{messages}");
    }

    #[test]
    fn a_list_that_asks_nothing_is_refused() {
        for messages in [
            json!([]),
            json!([{"role": "system", "content": "a"}]),
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
            json!([{"role": "user", "content": " \n"}]),
            json!([{"role": "user", "content": []}]),
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "tool", "content": null}]),
        ] {
            check_refused(&messages, crate::openai::Reason::InvalidValue, "messages");
        }
    }

    #[test]
    fn a_message_that_cannot_be_used_is_refused_by_its_place() {
        use crate::openai::Reason::{InvalidValue, Unsupported};
        for (message, reason, param) in [
            (json!({"content": "a"}), InvalidValue, "messages[0].role"),
            (json!({"role": "robot"}), InvalidValue, "messages[0].role"),
            (json!({"role": "user"}), InvalidValue, "messages[0].content"),
            (
                json!({"role": "system"}),
                InvalidValue,
                "messages[0].content",
            ),
            (
                json!({"role": "user", "content": [{"type": "text"}]}),
                InvalidValue,
                "messages[0].content[0]",
            ),
            (
                json!({"role": "user", "content": [{"text": "a"}]}),
                InvalidValue,
                "messages[0].content[0]",
            ),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:,"}}]}),
                Unsupported,
                "messages[0].content[1]",
            ),
            (
                json!({"role": "tool", "content": [{"type": "input_audio"}]}),
                Unsupported,
                "messages[0].content[0]",
            ),
            (
                json!({"role": "user", "content": [{"type": "hologram"}]}),
                Unsupported,
                "messages[0].content[0]",
            ),
            (
                json!({"role": "assistant", "audio": {"id": "a"}}),
                Unsupported,
                "messages[0].audio",
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"id": "a"}]}),
                InvalidValue,
                "messages[0].tool_calls[0]",
            ),
        ] {
            check_refused(
                &json!([message, {"role": "user", "content": "a"}]),
                reason,
                param,
            );
        }
    }
}
