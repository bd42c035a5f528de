//! The body of `POST /v1/chat/completions`, as clients send it.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::conversation::Role;
use crate::conversation::known::{KnownOf, RawHash};
use crate::conversation::text::Text;
use crate::openai::content::Content;
use crate::openai::object::{FromKeys, keep, object, or_default, skip, text_or_json};

/// A request for a chat completion. Fields other than the messages are read where they are used,
/// so that an error can name them and what is ignored can be told.
#[derive(Clone, Default)]
pub struct ChatRequest {
    pub messages: Vec<Sent>,
    pub fields: Map<String, Value>,
    /// Where new messages are remembered.
    pub known: Option<KnownOf>,
}

/// A message, by what had to be read of it.
#[derive(Clone, Debug)]
pub enum Sent {
    New(Box<Message>, Option<RawHash>),
    Known(Role, Text),
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let message = Message::deserialize(json)?;
        Ok(Self::New(Box::new(message), None))
    }
}

impl fmt::Debug for ChatRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatRequest")
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for ChatRequest {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for ChatRequest {
    const WHAT: &'static str = "a request";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "messages" => or_default(values).map(|messages| self.messages = messages),
            _ => keep(&mut self.fields, key, values),
        }
    }
}

/// A message, whoever speaks.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub role: Option<String>,
    pub content: Option<Content>,
    pub refusal: Option<String>,
    /// Of a function message: the function's name.
    pub name: Option<String>,
    pub tool_calls: Vec<ToolCall>,
    pub tool_call_id: Option<String>,
    /// What `tool_calls` were called before there were several.
    pub function_call: Option<Called>,
    /// Whether it refers to an answer that was spoken.
    pub spoken: bool,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for Message {
    const WHAT: &'static str = "a message";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "role" => self.role = values.next_value()?,
            "content" => self.content = values.next_value()?,
            "refusal" => self.refusal = values.next_value()?,
            "name" => self.name = values.next_value()?,
            "tool_calls" => self.tool_calls = or_default(values)?,
            "tool_call_id" => self.tool_call_id = values.next_value()?,
            "function_call" => self.function_call = values.next_value()?,
            "audio" => self.spoken = values.next_value::<Option<IgnoredAny>>()?.is_some(),
            _ => skip(values)?,
        }
        Ok(())
    }
}

/// A call of a tool that an assistant message made.
#[derive(Clone, Debug, Default)]
pub struct ToolCall {
    pub id: Option<String>,
    pub called: Option<Called>,
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for ToolCall {
    const WHAT: &'static str = "a tool call";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "id" => self.id = values.next_value()?,
            "function" | "custom" => self.called = values.next_value()?,
            _ => skip(values)?,
        }
        Ok(())
    }
}

/// What was called, and with what.
#[derive(Clone, Debug, Default)]
pub struct Called {
    pub name: Option<String>,
    pub arguments: String,
}

impl<'de> Deserialize<'de> for Called {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for Called {
    const WHAT: &'static str = "a called function";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = values.next_value()?,
            "arguments" | "input" => self.arguments = text_or_json(values)?,
            _ => skip(values)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> ChatRequest {
        serde_json::from_str(body).unwrap()
    }

    fn first(request: &ChatRequest) -> &Message {
        match &request.messages[0] {
            Sent::New(message, _) => message,
            Sent::Known(..) => panic!("nothing is known"),
        }
    }

    fn path_of_error(body: &str) -> String {
        let mut json = serde_json::Deserializer::from_str(body);
        let read = serde_path_to_error::deserialize::<_, ChatRequest>(&mut json);
        read.unwrap_err().path().to_string()
    }

    #[test]
    fn of_equal_keys_the_last_wins() {
        let request = read(
            r#"{"model": "a", "messages": [], "model": "b",
                "messages": [{"role": "user", "role": "tool", "content": "a", "content": null}]}"#,
        );

        assert_eq!(request.fields["model"], "b");
        assert_eq!(request.messages.len(), 1);
        assert_eq!(first(&request).role.as_deref(), Some("tool"));
        assert!(first(&request).content.is_none());
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let request = read(
            r#"{"messages": [{"role": "assistant", "content": null, "name": null, "audio": null,
                "refusal": null, "tool_calls": null, "function_call": null, "later": {}}]}"#,
        );

        let message = first(&request);
        assert!(message.content.is_none() && message.tool_calls.is_empty() && !message.spoken);
        assert!(read(r#"{"messages": null}"#).messages.is_empty());
    }

    #[test]
    fn a_part_may_be_of_any_type_and_say_anything() {
        let request = read(
            r#"{"messages": [{"content": [{"text": {"a": [1]}, "type": "new", "x": 1}, {}]}]}"#,
        );

        let Some(Content::Parts(parts)) = &first(&request).content else {
            panic!("the content is a list of parts");
        };
        assert_eq!(parts[0].kind.as_deref(), Some("new"));
        assert_eq!(parts[1].kind, None);
    }

    #[test]
    fn arguments_may_be_text_or_the_object_itself() {
        let request = read(
            r#"{"messages": [{"tool_calls": [
                {"id": "1", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
                {"id": "2", "function": {"name": "f", "arguments": {"a": 1}}},
                {"id": "3", "custom": {"name": "f", "input": "a"}}]}]}"#,
        );

        let calls = first(&request).tool_calls.iter();
        let arguments: Vec<_> = calls
            .map(|call| call.called.as_ref().unwrap().arguments.as_str())
            .collect();
        assert_eq!(arguments, [r#"{"a": 1}"#, r#"{"a":1}"#, "a"]);
    }

    #[test]
    fn a_wrong_shape_is_told_by_its_place() {
        for (body, path) in [
            ("[]", "."),
            (r#"{"messages": {}}"#, "messages"),
            (r#"{"messages": ["hi"]}"#, "messages[0]"),
            (r#"{"messages": [{"role": 1}]}"#, "messages[0].role"),
            (r#"{"messages": [{"content": 1}]}"#, "messages[0].content"),
            (
                r#"{"messages": [{}, {"content": ["a"]}]}"#,
                "messages[1].content[0]",
            ),
            (
                r#"{"messages": [{"content": [{"type": 1}]}]}"#,
                "messages[0].content[0].type",
            ),
            (
                r#"{"messages": [{"tool_calls": [{"id": 1}]}]}"#,
                "messages[0].tool_calls[0].id",
            ),
        ] {
            assert_eq!(path_of_error(body), path, "{body}");
        }
    }

    #[test]
    fn a_request_does_not_show_what_it_says() {
        let request =
            read(r#"{"user": "jane", "messages": [{"role": "user", "content": "secret"}]}"#);

        let shown = format!("{request:?}");

        assert_eq!(shown, "ChatRequest { messages: 1, .. }");
    }
}
