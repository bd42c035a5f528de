//! Leaves a thread for a new one, which begins with what the conversation has been so far.

use std::borrow::Cow;

use tokio::time::sleep;

use super::Error;
use super::baseline::in_order;
use super::carry::{Beginning, Carry, Step, Why};
use super::listing::Line;
use crate::config::OnUnknown;
use crate::conversation::queue::Held;
use crate::conversation::{Decision, Message, Role, transcript};
use crate::planted::{Bug, is_planted};
use crate::store::{Branch, Seen};
use crate::upstream::{self, ThreadId};

/// Reads of a thread that a transcript is wanted of.
pub const TRANSCRIPT_READS: u32 = 3;

impl Carry {
    /// Leaves a thread for a new one, which begins with what the conversation has been so far.
    pub async fn replay(&self, old: Held, why: Why) -> Result<Step, Error> {
        let branch = old.slot.branch();
        if why == Why::Unknown && is_planted(Bug::NoQuarantine) {
            return Err(Error::OutcomeUnknown);
        }
        self.shared.store.close(&old.slot);
        if why == Why::Unknown && self.shared.settings.on_unknown == OnUnknown::Tell {
            return Err(Error::OutcomeUnknown);
        }
        let transcript = if !self.turn.history.is_empty() {
            self.transcript_of_history()
        } else if let Some(earlier) = &self.earlier {
            earlier.before(self).await?.transcript
        } else if matches!(why, Why::Lost | Why::Vanished) && branch.seen.is_some() {
            return Err(Error::NoConversation(self.conversation.to_string()));
        } else {
            if matches!(why, Why::Unknown | Why::Foreign) {
                // It was read just now.
                sleep(self.shared.pace.min_gap()).await;
            }
            match self.transcript_of_branch(&branch).await {
                Err(_) if why == Why::Unknown => return Err(Error::OutcomeUnknown),
                told => told?,
            }
        };
        let key = (self.turn.caller.tenant, self.conversation.clone());
        let record = self.shared.store.handle(&key);
        let delta = record.is_none_or(|record| record.delta);
        let held = self
            .shared
            .resolver
            .anew(&self.turn, &self.hashes, &self.conversation);
        if self.turn.history.is_empty() {
            self.shared.store.change(&held.slot, |new| {
                new.tip = branch.tip;
                new.window = branch.window;
                new.origin = Some(old.slot.id);
            });
        }
        self.run
            .report(|progress| progress.place.decision = Decision::Replayed);
        Ok(Step::Begin(Beginning {
            held,
            transcript,
            before: Some((old.slot, delta)),
        }))
    }

    pub fn transcript_of_history(&self) -> Option<String> {
        transcript::bounded(&self.turn.history, self.shared.transcript)
    }

    /// What the caller of a branch was told so far: by the branch's own thread, or, where no turn has
    /// ended there yet, by the one that it has replaced.
    pub async fn transcript_of_branch(&self, branch: &Branch) -> Result<Option<String>, Error> {
        let mut branch = Cow::Borrowed(branch);
        loop {
            if let (Some(thread), Some(seen)) = (&branch.thread, &branch.seen) {
                return self.transcript_of_thread(thread, seen).await;
            }
            let Some(origin) = branch.origin else {
                return Ok(None);
            };
            let Some(slot) = self.shared.store.branch(origin) else {
                return Err(Error::NoConversation(self.conversation.to_string()));
            };
            branch = Cow::Owned(slot.branch());
        }
    }

    /// The conversation as its thread shows it up to our last read, for a caller that sends new
    /// text alone.
    async fn transcript_of_thread(
        &self,
        thread: &ThreadId,
        seen: &Seen,
    ) -> Result<Option<String>, Error> {
        let mut lost = false;
        for failures in 1..=TRANSCRIPT_READS {
            match self.shared.calls.read(&self.turn.caller, thread).await {
                Ok(shown) => {
                    if let Some(lines) = in_order(seen, &shown) {
                        let messages: Vec<Message> = lines.into_iter().map(quoted).collect();
                        return Ok(transcript::bounded(&messages, self.shared.transcript));
                    }
                }
                Err(upstream::ReadError::KeyRefused(status)) => {
                    return Err(Error::KeyRefused(status));
                }
                Err(upstream::ReadError::NoThread) if lost => {
                    return Err(Error::NoConversation(self.conversation.to_string()));
                }
                // What was read before may be lost for a moment only.
                Err(upstream::ReadError::NoThread) => lost = true,
                Err(upstream::ReadError::Busy(_) | upstream::ReadError::Passing(_)) => {}
            }
            sleep(self.shared.pace.back_off(thread, failures, None)).await;
        }
        Err(Error::Unreachable)
    }
}

fn quoted(line: &Line) -> Message {
    let message = &line.message;
    Message {
        role: match message.role {
            Some(upstream::Role::Assistant) => Role::Assistant,
            Some(upstream::Role::User) | None => Role::User,
        },
        text: message.text.clone(),
        calls: Vec::new(),
        answers: None,
        parts: Vec::new(),
    }
}
