//! Picks the answer to our message out of a thread as one read shows it.
//!
//! The order of messages, their ids, times and roles may be missing, and a read may show only the
//! newest twenty. So the answer is found by position after our own message, and our own message by
//! its text beyond what the last read ended with: never as the last message, never by counting.

use super::baseline;
use super::listing::{Line, Listing};
use crate::conversation::salt::Salt;
use crate::ids::Mark;
use crate::planted::{Bug, is_planted};
use crate::store::Seen;
use crate::upstream::{Annotation, Message, Role};

/// What a read says of our message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Our message stands beyond what was seen before.
    pub ours: bool,
    /// The read shows something of what was seen before, so what is beyond it is certain.
    pub overlaps: bool,
    /// The assistant's text after our message, if there is any yet.
    pub text: Option<String>,
    pub annotations: Vec<Annotation>,
    /// Somebody else has written in the thread since our last read.
    pub foreign: bool,
    /// For the next read.
    pub seen: Seen,
}

/// Looks for the text with this mark, posted after a read that ended with `seen`, and for what
/// follows it.
pub fn read_off(salt: &Salt, seen: &Seen, posted: Mark, listing: &Listing) -> Reading {
    let view = |newest_first| View::new(salt, (seen, posted), listing, newest_first);
    if is_planted(Bug::TakesTheLastMessage) {
        let newest_first = baseline::newest_first(seen, listing).unwrap_or_default();
        return view(newest_first).last_message();
    }
    if let Some(newest_first) = baseline::newest_first(seen, listing) {
        return view(newest_first).reading(true);
    }
    let (forward, backward) = (view(false), view(true));
    let (ahead, behind) = (forward.plausibility(), backward.plausibility());
    let best = if behind > ahead { backward } else { forward };
    // A thread that reads as well both ways says nothing of the order.
    best.reading(ahead != behind && ahead.max(behind) == View::CERTAIN)
}

/// The messages in one of the two possible orders.
struct View<'a> {
    messages: Vec<&'a Line>,
    newest_first: bool,
    /// Messages known from the last read; `None` where it cannot be told.
    known: Option<usize>,
    /// Where our message stands.
    ours: Option<usize>,
    /// No message has been seen in this thread before.
    begins: bool,
}

impl<'a> View<'a> {
    const CERTAIN: u8 = 7;

    fn new(
        salt: &Salt,
        (seen, posted): (&Seen, Mark),
        listing: &'a Listing,
        newest_first: bool,
    ) -> Self {
        let begins = seen.keys.is_empty();
        let mut messages: Vec<&Line> = listing.lines.iter().collect();
        if newest_first {
            messages.reverse();
        }
        let known = baseline::known(seen, &messages, newest_first);
        let is_ours =
            |line: &&Line| line.message.role != Some(Role::Assistant) && line.mark(salt) == posted;
        let ours = match known {
            Some(known) => {
                let beyond = messages.iter().skip(known).position(is_ours);
                beyond.map(|at| known + at)
            }
            // Older messages may be equal; ours is the newest.
            None => messages.iter().rposition(is_ours),
        };
        Self {
            messages,
            newest_first,
            known,
            ours,
            begins,
        }
    }

    /// How well this order explains the messages: ours is there, first among the new, and nobody
    /// speaks after it but the assistant.
    fn plausibility(&self) -> u8 {
        let Some(ours) = self.ours else {
            return u8::from(self.known.is_some());
        };
        let first = ours == self.known.unwrap_or_default();
        let answered = self
            .messages
            .iter()
            .skip(ours + 1)
            .all(|line| line.message.role != Some(Role::User));
        u8::from(self.known.is_some()) + 2 * u8::from(answered) + 4 * u8::from(first)
    }

    fn reading(self, order_told: bool) -> Reading {
        let newest_first = order_told.then_some(self.newest_first);
        let mut listed = self.messages.clone();
        if self.newest_first && !order_told {
            listed.reverse();
        }
        let seen = baseline::seen(&listed, newest_first);
        let Some(ours) = self.ours else {
            return Reading {
                seen,
                ..Reading::default()
            };
        };
        let after = self.messages.iter().skip(ours + 1);
        let mut answer = Joined::default();
        let mut foreign = self.written_before(ours);
        for Line { message, .. } in after {
            if message.role == Some(Role::User) {
                foreign = true;
                break;
            }
            answer.push(message);
        }
        Reading {
            ours: true,
            overlaps: self.known.is_some(),
            text: (!answer.text.is_empty()).then_some(answer.text),
            annotations: answer.annotations,
            foreign,
            seen,
        }
    }

    /// Wrong wherever anything lags.
    fn last_message(self) -> Reading {
        let said = |line: &&&Line| line.message.role == Some(Role::Assistant);
        let text = self
            .messages
            .iter()
            .rfind(said)
            .map(|line| line.message.text.clone());
        Reading {
            text,
            ..self.reading(true)
        }
    }

    /// Whether something that we have not seen stands between the last read and our message. On a
    /// new thread a greeting may.
    fn written_before(&self, ours: usize) -> bool {
        let Some(known) = self.known else {
            return true;
        };
        self.messages
            .iter()
            .take(ours)
            .skip(known)
            .any(|line| !self.begins || line.message.role != Some(Role::Assistant))
    }
}

/// Several assistant messages as one text.
#[derive(Default)]
struct Joined {
    text: String,
    chars: usize,
    annotations: Vec<Annotation>,
}

impl Joined {
    fn push(&mut self, message: &Message) {
        if message.text.trim().is_empty() {
            return;
        }
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
            self.chars += 2;
        }
        let offset = self.chars;
        self.annotations.extend(
            message
                .annotations
                .iter()
                .cloned()
                .map(|annotation| Annotation {
                    start: annotation.start + offset,
                    end: annotation.end + offset,
                    ..annotation
                }),
        );
        self.text.push_str(&message.text);
        self.chars += message.text.chars().count();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conversation::canonical::squashed;
    use crate::run::listing::mark;
    use crate::upstream::Thread;

    fn message(role: Role, text: &str) -> Message {
        Message {
            role: Some(role),
            text: text.to_owned(),
            ..Message::default()
        }
    }

    fn user(text: &str) -> Message {
        message(Role::User, text)
    }

    fn assistant(text: &str) -> Message {
        message(Role::Assistant, text)
    }

    fn salt() -> Salt {
        Salt::fixed([7; 32])
    }

    fn thread(messages: Vec<Message>) -> Listing {
        let thread = Thread {
            messages,
            ..Thread::default()
        };
        Listing::of(&salt(), thread)
    }

    fn read_off(seen: &Seen, posted: &str, listing: &Listing) -> Reading {
        super::read_off(&salt(), seen, mark(&salt(), posted), listing)
    }

    #[test]
    fn the_answer_stands_after_our_message_in_either_order() {
        let newest_last = thread(vec![user("q"), assistant("a"), assistant("b")]);
        let newest_first = thread(vec![assistant("b"), assistant("a"), user("q")]);

        for thread in [newest_last, newest_first] {
            let reading = read_off(&Seen::default(), "q", &thread);
            assert_eq!(reading.text.as_deref(), Some("a\n\nb"));
            assert!(reading.ours && !reading.foreign);
        }
    }

    #[test]
    fn a_message_that_has_not_come_yet_has_no_answer() {
        let seen = baseline::remember(&thread(vec![user("yes"), assistant("ok")]));

        let stale = read_off(&seen, "yes", &thread(vec![user("yes"), assistant("ok")]));
        let pending = thread(vec![user("yes"), assistant("ok"), user("yes")]);
        let answered = thread(vec![
            user("yes"),
            assistant("ok"),
            user("yes"),
            assistant("ok"),
        ]);

        assert_eq!((stale.ours, stale.text), (false, None));
        assert_eq!(read_off(&seen, "yes", &pending).text, None);
        assert!(read_off(&seen, "yes", &pending).ours);
        assert_eq!(
            read_off(&seen, "yes", &answered).text.as_deref(),
            Some("ok")
        );
    }

    #[test]
    fn a_stranger_s_message_is_noticed_and_its_answer_is_not_ours() {
        let seen = baseline::remember(&thread(vec![user("q1"), assistant("a1")]));
        let mut messages = vec![user("q1"), assistant("a1"), user("q2"), assistant("a2")];
        messages.extend([user("strange"), assistant("not ours")]);

        let after = read_off(&seen, "q2", &thread(messages));
        let before = read_off(
            &seen,
            "q2",
            &thread(vec![
                user("q1"),
                assistant("a1"),
                user("x"),
                user("q2"),
                assistant("a2"),
            ]),
        );

        assert_eq!(after.text.as_deref(), Some("a2"));
        assert_eq!(before.text.as_deref(), Some("a2"));
        assert!(after.foreign && before.foreign);
    }

    #[test]
    fn a_greeting_on_a_new_thread_is_no_stranger() {
        let greeted = thread(vec![assistant("Welcome!"), user("q"), assistant("a")]);

        let reading = read_off(&Seen::default(), "q", &greeted);

        assert_eq!(reading.text.as_deref(), Some("a"));
        assert!(!reading.foreign);
    }

    #[test]
    fn annotations_move_with_their_text() {
        let cited = Message {
            annotations: vec![Annotation {
                start: 0,
                end: 2,
                url: "https://example.com".to_owned(),
                title: "a page".to_owned(),
            }],
            ..assistant("bé")
        };

        let reading = read_off(
            &Seen::default(),
            "q",
            &thread(vec![user("q"), assistant("é"), cited]),
        );

        assert_eq!(reading.text.as_deref(), Some("é\n\nbé"));
        assert_eq!(
            (reading.annotations[0].start, reading.annotations[0].end),
            (3, 5)
        );
    }

    /// One thread as the upstream holds it, and the ways in which it may show it.
    #[derive(Clone, Debug)]
    struct Showing {
        newest_first: bool,
        ids: bool,
        roles: bool,
        times: bool,
        window: Option<usize>,
        rewrapped: bool,
    }

    fn show(messages: &[(Role, String)], showing: &Showing) -> Listing {
        let skipped = showing
            .window
            .map_or(0, |window| messages.len().saturating_sub(window));
        let mut shown: Vec<Message> = messages
            .iter()
            .enumerate()
            .skip(skipped)
            .map(|(at, (role, text))| Message {
                id: showing.ids.then(|| format!("msg_{at}")),
                role: showing.roles.then_some(*role),
                created_at: showing.times.then_some(1_700_000_000.0 + at as f64),
                text: if showing.rewrapped {
                    format!(" {} ", text.replace(' ', "\n"))
                } else {
                    text.clone()
                },
                ..Message::default()
            })
            .collect();
        if showing.newest_first {
            shown.reverse();
        }
        thread(shown)
    }

    fn showing() -> impl Strategy<Value = Showing> {
        (
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(
                |(newest_first, ids, roles, times, window, rewrapped)| Showing {
                    newest_first,
                    ids,
                    roles,
                    times,
                    window: window.then_some(20),
                    rewrapped,
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Turn after turn on one thread, whatever the upstream shows of it: before our message is
        /// shown, after it, and after its answer.
        #[test]
        fn every_answer_is_found_by_position(
            showing in showing(),
            turns in prop::collection::vec(("[a-c]{1,2}( [a-c])?", "[x-z]{1,3}( [x-z])?"), 1..16),
        ) {
            let mut messages: Vec<(Role, String)> = Vec::new();
            let mut seen = Seen::default();
            for (at, (question, answer)) in turns.iter().enumerate() {
                // Without ids and times equal texts in a window cannot be told apart.
                let question = format!("{question} {at}");
                let before = show(&messages, &showing);
                prop_assert!(!read_off(&seen, &question, &before).ours);
                messages.push((Role::User, question.clone()));
                let pending = read_off(&seen, &question, &show(&messages, &showing));
                prop_assert!(pending.ours);
                prop_assert_eq!(pending.text, None);
                messages.push((Role::Assistant, answer.clone()));
                let reading = read_off(&seen, &question, &show(&messages, &showing));
                prop_assert_eq!(reading.text.as_deref().map(squashed), Some(squashed(answer)));
                prop_assert!(!reading.foreign);
                seen = reading.seen;
            }
        }
    }
}
