//! A thread as one read shows it, each message with the keyed hashes that it is known by later.

use crate::conversation::canonical::squashed;
use crate::conversation::salt::Salt;
use crate::ids::{Mark, Short, cut};
use crate::upstream::{Message, Role, RunStatus, Thread};

/// One read of a thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// As the upstream lists them.
    pub lines: Vec<Line>,
    pub status: Option<RunStatus>,
    pub failure: Option<String>,
}

/// A message, and what it is known by.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub message: Message,
    /// `None` where it is worked out when it is asked for, which it mostly never is.
    mark: Option<Mark>,
    /// Of its id, or else of all that it shows.
    pub key: Short,
}

impl Listing {
    pub fn of(salt: &Salt, thread: Thread) -> Self {
        Self {
            lines: thread
                .messages
                .into_iter()
                .map(|message| Line::of(salt, message))
                .collect(),
            status: thread.status,
            failure: thread.failure,
        }
    }

    /// With all worked out that may be asked for.
    pub fn whole(salt: &Salt, thread: Thread) -> Self {
        let mut listing = Self::of(salt, thread);
        for line in &mut listing.lines {
            line.mark = Some(line.mark(salt));
        }
        listing
    }
}

impl Line {
    fn of(salt: &Salt, message: Message) -> Self {
        let mut mark = None;
        let key = match &message.id {
            Some(id) => salt.hash_text("message id", [id.as_bytes()]),
            None => {
                let mark = *mark.insert(self::mark(salt, &message.text));
                let role = [match message.role {
                    Some(Role::User) => 1,
                    Some(Role::Assistant) => 2,
                    None => 0,
                }];
                let time = message.created_at.map(|at| at.to_bits().to_le_bytes());
                let time = time.as_ref().map_or(&[][..], |time| time);
                salt.hash_text("shown message", [&role, time, mark.0.as_slice()])
            }
        };
        Self {
            message,
            mark,
            key: cut(&key),
        }
    }

    /// What its text is found by.
    pub fn mark(&self, salt: &Salt) -> Mark {
        self.mark.unwrap_or_else(|| mark(salt, &self.message.text))
    }
}

/// What a text that was posted is found by in its thread, however its white space comes back.
pub fn mark(salt: &Salt, text: &str) -> Mark {
    Mark(cut(&salt.hash_text("posted", [squashed(text).as_bytes()])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TextHash;

    /// What is remembered of a thread is compared with these.
    #[test]
    fn what_was_seen_stays_known_by_what_it_is() {
        let known = [TextHash::Highway, TextHash::Sha256].map(|texts| {
            let salt = Salt::of_state([7; 32], texts);
            let line = |id: Option<&str>| {
                let message = Message {
                    id: id.map(str::to_owned),
                    role: Some(Role::User),
                    text: " Revenue\nby region?".to_owned(),
                    created_at: None,
                    annotations: Vec::new(),
                };
                Line::of(&salt, message)
            };
            let hex =
                |hash: &[u8]| -> String { hash.iter().map(|byte| format!("{byte:02x}")).collect() };
            let (named, nameless) = (line(Some("m1")), line(None));
            [
                hex(&named.mark(&salt).0),
                hex(&named.key),
                hex(&nameless.key),
            ]
        });

        let highway = [
            "28b18ff4578c79ac7b4485619c71c41b",
            "fc8350e5b8a1f91e",
            "34434ed73adb3fe1",
        ];
        let sha256 = [
            "8cd918767eb0dc8171fbca8d629f2269",
            "d0af1d58d5edb596",
            "0e99430f263a8c2d",
        ];
        assert_eq!(known, [highway, sha256]);
    }
}
