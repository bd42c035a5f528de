//! The growing text of a run, as far as it may be sent.

use std::sync::Arc;

use super::clip::Clip;
use crate::conversation::Turn;

/// What has been shown, and what may be sent of it.
#[derive(Debug)]
pub struct Shown<'a> {
    turn: &'a Turn,
    clip: Clip,
    whole: String,
    sent: String,
}

impl<'a> Shown<'a> {
    pub fn new(turn: &'a Turn) -> Self {
        Self {
            turn,
            clip: Clip::new(&turn.limits),
            whole: String::new(),
            sent: String::new(),
        }
    }

    /// What may be sent by now, of a text that a read shows. Of one that is to have a form, nothing may:
    /// whether it has is told by the whole.
    pub fn show(&mut self, text: &str) -> Arc<str> {
        if self.turn.form.is_some() {
            return Arc::default();
        }
        // All of it then, without a copy of what was and of what is sent.
        if self.clip.cuts_nothing() {
            return Arc::from(text);
        }
        if !text.starts_with(&self.whole) {
            *self = Self::new(self.turn);
        }
        let growth = text.get(self.whole.len()..).unwrap_or_default();
        self.whole.push_str(growth);
        let may_be_sent = self.clip.grow(growth);
        self.sent.push_str(&may_be_sent);
        Arc::from(self.sent.as_str())
    }
}
