//! The end of a run: the answer as its caller sees it, and the tip moved over the turn.

use super::answer::Reading;
use super::{Answer, Finish, clip};
use crate::conversation::fingerprint::digest;
use crate::conversation::salt::Salt;
use crate::conversation::{Limits, Message, Role};
use crate::ids::{Digest, cut};
use crate::store::record::Turn;
use crate::store::{Slot, State, Store};

/// An answer, and what the whole of it is known by.
#[derive(Clone, Debug)]
pub struct Ending {
    pub answer: Answer,
    pub whole: Digest,
}

/// Cuts an answer as its caller asked.
pub fn ending(salt: &Salt, limits: &Limits, reading: &Reading, finish: Finish) -> Ending {
    let whole = reading.text.as_deref().unwrap_or_default();
    let (text, cut) = clip::cut(limits, whole);
    let chars = text.chars().count();
    let answer = Answer {
        // A run that ended early ends with `length`, unless a stop sequence came first.
        finish: if text.len() < whole.len() {
            cut
        } else {
            finish
        },
        annotations: reading
            .annotations
            .iter()
            .filter(|annotation| annotation.end <= chars)
            .cloned()
            .collect(),
        text,
        calls: Vec::new(),
    };
    Ending {
        answer,
        whole: said(salt, whole),
    }
}

/// Moves the tip over the turn, as its caller sees it. A turn that was moved over before is not
/// moved over again.
pub fn advance(
    store: &Store,
    salt: &Salt,
    slot: &Slot,
    turn: &Turn,
    (answer, reading): (&Answer, &Reading),
) {
    if slot.look(|branch| branch.tip != turn.before) {
        return;
    }
    let said = said(salt, &answer.text);
    store.advance(slot, |branch| {
        branch.tip = turn.prompted.then(salt, &said);
        branch.extend_window(turn.window.iter().copied().chain([cut(&said)]));
        branch.seen = Some(reading.seen.clone());
        branch.doubted = false;
        if reading.foreign {
            branch.state = State::Closed;
        }
    });
}

/// What an assistant message with this text is known by in a history.
pub fn said(salt: &Salt, text: &str) -> Digest {
    let message = Message {
        role: Role::Assistant,
        text: text.to_owned(),
        calls: Vec::new(),
        answers: None,
        parts: Vec::new(),
    };
    digest(salt, &message)
}
