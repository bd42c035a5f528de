//! Items as callers send them: messages in every form, calls of functions and what came of them.

use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};

use crate::conversation::{Message, Role, ToolCall};
use crate::openai::Error;
use crate::openai::content::{Content, Place};
use crate::openai::messages::{Author, Entry};
use crate::openai::object::{FromKeys, object, skip, text_or_json};

/// An item, whatever it is.
#[derive(Clone, Debug, Default)]
pub struct WireItem {
    pub kind: Option<String>,
    pub id: Option<String>,
    pub role: Option<String>,
    pub content: Option<Content>,
    pub call_id: Option<String>,
    pub name: Option<String>,
    pub arguments: String,
    pub output: Option<Content>,
}

impl<'de> Deserialize<'de> for WireItem {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for WireItem {
    const WHAT: &'static str = "an item";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = values.next_value()?,
            "id" => self.id = values.next_value()?,
            "role" => self.role = values.next_value()?,
            "content" => self.content = values.next_value()?,
            "call_id" => self.call_id = values.next_value()?,
            "name" => self.name = values.next_value()?,
            "arguments" | "input" => self.arguments = text_or_json(values)?,
            "output" => self.output = values.next_value()?,
            _ => skip(values)?,
        }
        Ok(())
    }
}

/// What an item is to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Entry(Entry),
    /// An item that is known by its id.
    Reference(String),
    /// It says nothing.
    Nothing,
}

impl WireItem {
    pub fn heard(self, place: Place) -> Result<Heard, Error> {
        match (self.kind.as_deref(), &self.role, &self.id) {
            (Some("message"), ..) | (None, Some(_), _) => self.message(place).map(Heard::Entry),
            (Some("item_reference") | None, None, Some(_)) => {
                Ok(Heard::Reference(self.id.unwrap_or_default()))
            }
            (Some("function_call" | "custom_tool_call"), ..) => {
                self.call(place).map(|said| Heard::Entry(Entry::Said(said)))
            }
            (Some("function_call_output" | "custom_tool_call_output"), ..) => {
                let text = place.needed("output", self.output)?;
                Ok(Heard::Entry(Entry::Said(Message {
                    answers: Some(needed(self.call_id, "call_id", place)?),
                    ..Message::said(Role::Tool, text)
                })))
            }
            (Some("reasoning"), ..) => Ok(Heard::Nothing),
            (None, ..) => {
                let path = place.of("role");
                let message = format!("{path} is missing");
                Err(Error::invalid(path, message))
            }
            (Some(_), ..) => Err(Error::unsupported(
                place.to_string(),
                format!(
                    "{place} is of a type that is not known here; messages, function_call, \
                     function_call_output, item_reference and reasoning are"
                ),
            )),
        }
    }

    fn message(self, place: Place) -> Result<Entry, Error> {
        let role = needed(self.role, "role", place)?;
        if let Some(author) = Author::of(&role) {
            let text = place.needed("content", self.content)?;
            return Ok(Entry::Instructions(author, text));
        }
        let role = match role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => {
                let path = place.of("role");
                let message =
                    format!("{path} must be one of system, developer, user and assistant");
                return Err(Error::invalid(path, message));
            }
        };
        Ok(Entry::Said(Message::said(
            role,
            place.needed("content", self.content)?,
        )))
    }

    fn call(self, place: Place) -> Result<Message, Error> {
        let call = ToolCall {
            id: needed(self.call_id, "call_id", place)?,
            name: needed(self.name, "name", place)?,
            arguments: self.arguments,
        };
        Ok(Message {
            calls: vec![call],
            ..Message::said(Role::Assistant, String::new())
        })
    }
}

fn needed(value: Option<String>, field: &str, place: Place) -> Result<String, Error> {
    value.ok_or_else(|| {
        let path = place.of(field);
        let message = format!("{path} is missing");
        Error::invalid(path, message)
    })
}

/// Adds what was heard: calls belong to the assistant's message before them, as a chat has it.
pub fn push(entries: &mut Vec<Entry>, entry: Entry) {
    if let Entry::Said(said) = &entry
        && !said.calls.is_empty()
        && let Some(Entry::Said(last)) = entries.last_mut()
        && last.role == Role::Assistant
    {
        last.calls.extend(said.calls.iter().cloned());
        return;
    }
    entries.push(entry);
}
