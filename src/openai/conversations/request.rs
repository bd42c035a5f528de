//! The bodies of requests about conversations, as clients send them.

use std::fmt;

use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::openai::content::Place;
use crate::openai::fields::Fields;
use crate::openai::items::{Heard, WireItem, push};
use crate::openai::messages::Entry;
use crate::openai::metadata::{Metadata, metadata};
use crate::openai::object::{FromKeys, keep, object, or_default};
use crate::openai::{Body, Error};

/// The body of any request about a conversation: what is noted on it, what is added to it.
#[derive(Clone, Default)]
pub struct ConversationRequest {
    items: Vec<WireItem>,
    fields: Map<String, Value>,
}

impl fmt::Debug for ConversationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversationRequest")
            .field("items", &self.items.len())
            .finish_non_exhaustive()
    }
}

impl Body for ConversationRequest {}

impl<'de> Deserialize<'de> for ConversationRequest {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for ConversationRequest {
    const WHAT: &'static str = "a request";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        match key {
            "items" => or_default(values).map(|items| self.items = items),
            _ => keep(&mut self.fields, key, values),
        }
    }
}

impl ConversationRequest {
    /// At most this many items are added at once, as OpenAI has it.
    const MOST_ITEMS: usize = 20;

    /// What a new conversation begins with.
    pub fn into_beginning(self) -> Result<(Metadata, Vec<Entry>), Error> {
        let metadata = metadata(Fields::new(&self.fields))?;
        Ok((metadata, self.entries()?))
    }

    /// What is noted on a conversation from now on.
    pub fn into_metadata(self) -> Result<Metadata, Error> {
        let fields = Fields::new(&self.fields);
        if fields.value("metadata").is_none() {
            return Err(Error::invalid("metadata", "metadata is missing"));
        }
        metadata(fields)
    }

    /// What is added to a conversation.
    pub fn into_entries(self) -> Result<Vec<Entry>, Error> {
        if self.items.is_empty() {
            return Err(Error::invalid("items", "items must have at least one item"));
        }
        self.entries()
    }

    fn entries(self) -> Result<Vec<Entry>, Error> {
        let most = Self::MOST_ITEMS;
        if self.items.len() > most {
            let message = format!("items must have at most {most} items");
            return Err(Error::invalid("items", message));
        }
        let mut entries = Vec::new();
        for (index, item) in self.items.into_iter().enumerate() {
            let list = "items";
            let place = Place { list, index };
            match item.heard(place)? {
                Heard::Nothing => {}
                Heard::Entry(entry) => push(&mut entries, entry),
                Heard::Reference(_) => {
                    let path = place.of("id");
                    let message = format!("{path} names an item; only new ones can be added");
                    return Err(Error::unsupported(path, message));
                }
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::Reason::{InvalidValue, Unsupported};

    fn read(body: &Value) -> ConversationRequest {
        serde_json::from_value(body.clone()).unwrap()
    }

    #[test]
    fn a_conversation_may_begin_with_nothing() {
        let beginning = read(&json!({"metadata": null, "items": null})).into_beginning();

        assert_eq!(beginning, Ok((Metadata::new(), Vec::new())));
    }

    #[test]
    fn what_is_noted_must_be_said() {
        let noted = |body| read(&body).into_metadata();

        assert!(noted(json!({"metadata": {}})).is_ok());
        assert_eq!(
            noted(json!({})).unwrap_err().param.as_deref(),
            Some("metadata")
        );
    }

    #[test]
    fn items_that_cannot_be_added_are_refused_by_their_place() {
        let many = vec![json!({"role": "user", "content": "a"}); 21];
        for (items, reason, param) in [
            (json!([]), InvalidValue, "items"),
            (json!(many), InvalidValue, "items"),
            (json!([{"role": "robot"}]), InvalidValue, "items[0].role"),
            (
                json!([{"type": "item_reference", "id": "msg_1"}]),
                Unsupported,
                "items[0].id",
            ),
        ] {
            let error = read(&json!({ "items": items })).into_entries().unwrap_err();

            assert_eq!(error.param.as_deref(), Some(param), "{items}");
            assert_eq!(error.reason, reason, "{items}");
        }
        assert_eq!(
            read(&json!({"items": many[..20]}))
                .into_entries()
                .map(|entries| entries.len()),
            Ok(20)
        );
    }
}
