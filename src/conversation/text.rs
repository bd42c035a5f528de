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
    Learnt(Box<(String, Facts)>),
    /// That of one of these messages, by its number.
    Sent(Arc<Raw>, usize),
}

/// Messages as they were sent, one after the other, and how the text of one is read.
#[expect(
    missing_debug_implementations,
    reason = "it would show what callers say"
)]
pub struct Raw {
    json: Vec<u8>,
    messages: Vec<Sent>,
    read: fn(&[u8]) -> String,
}

struct Sent {
    facts: Facts,
    place: Range<usize>,
    text: OnceLock<String>,
}

impl Raw {
    /// A copy of these, of which the facts are known.
    pub fn of<'a>(
        messages: impl Iterator<Item = (&'a [u8], Facts)> + Clone,
        read: fn(&[u8]) -> String,
    ) -> Self {
        let lengths = messages.clone().map(|(json, _)| json.len());
        let mut raw = Self {
            json: Vec::with_capacity(lengths.clone().sum()),
            messages: Vec::with_capacity(lengths.count()),
            read,
        };
        for (json, facts) in messages {
            let start = raw.json.len();
            raw.json.extend_from_slice(json);
            raw.messages.push(Sent {
                facts,
                place: start..raw.json.len(),
                text: OnceLock::new(),
            });
        }
        raw
    }

    /// What each of them says.
    pub fn texts(self) -> impl Iterator<Item = Text> {
        let numbers = 0..self.messages.len();
        let raw = Arc::new(self);
        numbers.map(move |number| Text(Inner::Sent(Arc::clone(&raw), number)))
    }

    fn text(&self, number: usize) -> &str {
        let Some(message) = self.messages.get(number) else {
            return "";
        };
        message.text.get_or_init(|| {
            let json = self.json.get(message.place.clone());
            (self.read)(json.unwrap_or_default())
        })
    }
}

impl Text {
    /// What is known of the message that says this.
    pub fn facts(&self) -> Option<&Facts> {
        match &self.0 {
            Inner::Said(_) => None,
            Inner::Learnt(learnt) => Some(&learnt.1),
            Inner::Sent(raw, number) => Some(&raw.messages.get(*number)?.facts),
        }
    }

    pub fn learn(&mut self, facts: Facts) {
        let text = std::mem::take(self).into_string();
        *self = Self(Inner::Learnt(Box::new((text, facts))));
    }

    /// How many bytes it takes, as text and as it was sent.
    pub fn size(&self) -> usize {
        match &self.0 {
            Inner::Said(text) => text.len(),
            Inner::Learnt(learnt) => learnt.0.len(),
            Inner::Sent(raw, number) => raw.messages.get(*number).map_or(0, |message| {
                message.place.len() + message.text.get().map_or(0, String::len)
            }),
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
            Inner::Learnt(learnt) => learnt.0,
            Inner::Sent(raw, number) => raw.text(number).to_owned(),
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Inner::Said(text) => text,
            Inner::Learnt(learnt) => &learnt.0,
            Inner::Sent(raw, number) => raw.text(*number),
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
        let messages = [b"first".as_slice(), b"two"].map(|json| (json, facts()));
        let raw = Raw::of(messages.into_iter(), |json| {
            String::from_utf8_lossy(json).to_uppercase()
        });
        raw.texts().last().unwrap()
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
    fn of_what_holds_messages_nothing_else_is_kept() {
        let body = b"[first, second, third]";
        let messages = [&body[1..6], &body[16..21]].map(|json| (json, facts()));

        let raw = Raw::of(messages.into_iter(), |json| {
            String::from_utf8_lossy(json).into_owned()
        });

        assert_eq!(raw.json, b"firstthird");
        assert_eq!(raw.json.capacity(), 10);
        let texts: Vec<Text> = raw.texts().collect();
        assert_eq!(texts, ["first", "third"].map(Text::from));
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
