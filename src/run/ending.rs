//! The end of a run: the answer as its caller sees it, and the tip moved over the turn.

use super::answer::Reading;
use super::audience::Run;
use super::{Answer, Finish, clip};
use crate::conversation::fingerprint::digest;
use crate::conversation::salt::Salt;
use crate::conversation::{Limits, Message, Role, ToolCall, call};
use crate::form;
use crate::ids::{Digest, Mark, cut};
use crate::store::record::{Phase, Point, Turn};
use crate::store::{Slot, State};
use crate::upstream::ThreadId;

/// An answer, and what it is known by.
#[derive(Clone, Debug)]
pub struct Ending {
    pub answer: Answer,
    /// As its caller has it in a history.
    pub said: Digest,
    /// Before it was cut.
    pub whole: Digest,
    /// What its thread was told of the form.
    pub form: Option<Digest>,
    /// Where it stands, if that is not the turn's own thread.
    pub scratch: Option<Scratch>,
}

/// A message of ours on a thread that holds no other.
#[derive(Clone, Debug)]
pub struct Scratch {
    pub thread: ThreadId,
    pub posted: Mark,
}

impl Ending {
    pub fn of(salt: &Salt, answer: Answer, whole: &str) -> Self {
        let of_whole = said(salt, whole);
        // Most answers are told as they came, and are long.
        let is_whole = answer.calls.is_empty() && answer.text == whole;
        Self {
            said: if is_whole {
                of_whole
            } else {
                answered(salt, &answer)
            },
            whole: of_whole,
            answer,
            form: None,
            scratch: None,
        }
    }

    /// Remembers that the turn is answered, and where. What its own thread ended with before stays: a
    /// thread that holds one message of ours needs no such mark.
    pub fn note(&self, turn: &mut Turn) {
        turn.phase = Phase::Answered(self.whole);
        if let Some(scratch) = &self.scratch {
            turn.thread = Some(scratch.thread.to_string());
            turn.posted = scratch.posted;
        }
    }
}

/// Cuts a text as its caller asked.
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
    Ending::of(salt, answer, whole)
}

/// Calls as their caller gets them. The answer made once more has the same ids.
pub fn called(salt: &Salt, run: &Run, calls: Vec<form::Call>) -> Vec<ToolCall> {
    let id = |at: u64, name: &str| {
        let (turn, at) = (run.id.0.to_le_bytes(), at.to_le_bytes());
        let hash = salt.hash("call id", [turn.as_slice(), &run.request, &at]);
        call::id(&hash, name)
    };
    let calls = (0..).zip(calls).map(|(at, call)| ToolCall {
        id: id(at, &call.name),
        name: call.name,
        arguments: call.arguments,
    });
    calls.collect()
}

/// Moves the tip over the turn to this point, as its caller sees it. A turn that was moved over before
/// is not moved over again.
pub fn advance(run: &Run, slot: &Slot, turn: &Turn, told: (&Ending, &Reading), point: Point) {
    let (ending, reading) = told;
    let note = |turn: &mut Turn| ending.note(turn);
    if slot.look(|branch| branch.tip != turn.before) {
        run.note(note);
        return;
    }
    run.advance(slot, note, |branch| {
        branch.tip = point.tip;
        branch.extend_window(turn.window.iter().copied().chain([cut(&ending.said)]));
        branch.seen = Some(point.seen);
        branch.doubted = false;
        branch.form = ending.form;
        if reading.foreign {
            branch.state = State::Closed;
        }
    });
}

/// What an assistant message with this answer is known by in a history.
pub fn answered(salt: &Salt, answer: &Answer) -> Digest {
    let message = Message {
        calls: answer.calls.clone(),
        ..Message::said(Role::Assistant, &*answer.text)
    };
    digest(salt, &message)
}

/// What the whole of a text is known by.
pub fn said(salt: &Salt, whole: &str) -> Digest {
    digest(salt, &Message::said(Role::Assistant, whole))
}

/// Where the conversation stands once the turn is answered.
pub fn point(salt: &Salt, turn: &Turn, ending: &Ending, reading: &Reading) -> Point {
    Point {
        tip: turn.prompted.then(salt, &ending.said),
        seen: reading.seen.clone(),
    }
}
