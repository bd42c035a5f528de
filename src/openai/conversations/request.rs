//! The bodies of requests about conversations, as clients send them.

use std::fmt;

use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::openai::Error;
use crate::openai::content::Place;
use crate::openai::fields::Fields;
use crate::openai::items::{Heard, WireItem, push};
use crate::openai::messages::Entry;
use crate::openai::metadata::{Metadata, metadata};
use crate::openai::object::{FromKeys, object, or_default};

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

impl<'de> Deserialize<'de> for ConversationRequest {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        object(json)
    }
}

impl<'de> FromKeys<'de> for ConversationRequest {
    const WHAT: &'static str = "a request";

    fn take<A: MapAccess<'de>>(&mut self, key: &str, values: &mut A) -> Result<(), A::Error> {
        if key == "items" {
            self.items = or_default(values)?;
        } else {
            self.fields.insert(key.to_owned(), values.next_value()?);
        }
        Ok(())
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
