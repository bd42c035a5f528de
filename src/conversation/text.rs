//! What a message says: as text, or as it was sent, to be read once somebody asks for it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

use super::known::Facts;

/// A text. Those of most messages of a history are never read, for all that is asked of them is known.
#[derive(Clone)]
pub struct Text(Inner);

#[derive(Clone)]
enum Inner {
    Said(String),
    WithFacts(Box<WithFacts>),
}

#[derive(Clone)]
struct WithFacts {
    facts: Facts,
    text: OnceLock<String>,
    raw: Option<(Arc<Raw>, Range<usize>)>,
}

/// Messages as they were sent, and how the text of one is read.
#[expect(
    missing_debug_implementations,
    reason = "it would show what callers say"
)]
pub struct Raw {
    pub json: Box<[u8]>,
    pub read: fn(&[u8]) -> String,
}

impl Text {
    /// Of a message that was sent before, and lies there now.
    pub fn raw(raw: Arc<Raw>, place: Range<usize>, facts: Facts) -> Self {
        Self(Inner::WithFacts(Box::new(WithFacts {
            facts,
            text: OnceLock::new(),
            raw: Some((raw, place)),
        })))
    }

    /// What is known of the message that says this.
    pub fn facts(&self) -> Option<&Facts> {
        match &self.0 {
            Inner::Said(_) => None,
            Inner::WithFacts(known) => Some(&known.facts),
        }
    }

    pub fn learn(&mut self, facts: Facts) {
        *self = Self(Inner::WithFacts(Box::new(WithFacts {
            facts,
            text: std::mem::take(self).into_string().into(),
            raw: None,
        })));
    }

    /// How many bytes it takes, as text and as it was sent.
    pub fn size(&self) -> usize {
        match &self.0 {
            Inner::Said(text) => text.len(),
            Inner::WithFacts(known) => {
                let raw = known.raw.as_ref().map_or(0, |(_, place)| place.len());
                raw + known.text.get().map_or(0, String::len)
            }
        }
    }

    /// What was known of it is not known of the longer text.
    pub fn push_str(&mut self, more: &str) {
        let mut text = std::mem::take(self).into_string();
        text.push_str(more);
        *self = text.into();
    }

    pub fn into_string(self) -> String {
        match self.0 {
            Inner::Said(text) => text,
            Inner::WithFacts(known) => {
                known.text();
                known.text.into_inner().unwrap_or_default()
            }
        }
    }
}

impl WithFacts {
    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let raw = self.raw.as_ref();
            let text = raw.and_then(|(raw, place)| Some((raw.read)(raw.json.get(place.clone())?)));
            text.unwrap_or_default()
        })
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Inner::Said(text) => text,
            Inner::WithFacts(known) => known.text(),
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        String::new().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Inner::Said(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Equal texts are equal, whatever is known of them.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Message, Role, ToolCall};

    fn facts() -> Facts {
        Facts {
            role: Role::User,
            digest: [1; 32],
            tokens: 2,
        }
    }

    fn raw() -> Text {
        let raw = Raw {
            json: b"one, two".as_slice().into(),
            read: |json| String::from_utf8_lossy(json).to_uppercase(),
        };
        Text::raw(Arc::new(raw), 5..8, facts())
    }

    #[test]
    fn what_was_sent_is_read_when_it_is_asked_for() {
        let text = raw();

        assert_eq!(text.size(), 3);
        assert_eq!(&*text, "TWO");
        assert_eq!(text.size(), 6);
        assert_eq!(text.into_string(), "TWO");
        assert_eq!(raw(), Text::from("TWO"));
        assert_ne!(raw(), Text::from("two"));
        assert_eq!(raw().clone().into_string(), "TWO");
    }

    #[test]
    fn what_is_known_of_a_text_is_not_known_of_a_longer_one() {
        let mut text = raw();
        text.push_str("!");
        assert_eq!((&*text, text.facts()), ("TWO!", None));

        text.learn(facts());
        assert_eq!((&*text, text.facts()), ("TWO!", Some(&facts())));

        text.push_str("?");
        assert_eq!((text.size(), text.facts()), (5, None));
    }

    #[test]
    fn what_is_known_of_a_message_is_not_known_of_another() {
        let message = |role| Message::said(role, raw());
        assert_eq!(message(Role::User).facts(), Some(&facts()));

        let call = ToolCall {
            id: "c".to_owned(),
            name: "f".to_owned(),
            arguments: "{}".to_owned(),
        };
        let others = [
            message(Role::Assistant),
            message(Role::Tool),
            Message {
                calls: vec![call],
                ..message(Role::User)
            },
            Message {
                answers: Some("c".to_owned()),
                ..message(Role::User)
            },
            Message {
                parts: vec![[0; 32]],
                ..message(Role::User)
            },
            Message {
                text: "other".into(),
                ..message(Role::User)
            },
        ];
        assert!(others.iter().all(|message| message.facts().is_none()));
    }
}
