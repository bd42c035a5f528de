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
        let transcript = if self.carries_its_past() {
            self.transcript_of_history()
        } else {
            if matches!(why, Why::Unknown | Why::Foreign) {
                // It was read just now.
                sleep(self.shared.pace.min_gap()).await;
            }
            match self.past_of(&branch, why).await {
                Err(_) if why == Why::Unknown => return Err(Error::OutcomeUnknown),
                told => told?,
            }
        };
        let key = (self.turn.caller.tenant, self.conversation.clone());
        let record = self.shared.store.handle(&key);
        let delta = record.is_none_or(|record| record.delta);
        let adds = delta && !self.carries_its_past();
        let held = self
            .shared
            .resolver
            .anew(&self.turn, &self.hashes, &self.conversation, adds);
        if !self.carries_its_past() {
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
    pub async fn messages_of_branch(&self, branch: &Branch) -> Result<Vec<Message>, Error> {
        let mut branch = Cow::Borrowed(branch);
        loop {
            if let (Some(thread), Some(seen)) = (&branch.thread, &branch.seen) {
                let told = self.messages_of_thread(thread, seen).await?;
                return told.ok_or(Error::Unreachable);
            }
            let Some(origin) = branch.origin else {
                return Ok(Vec::new());
            };
            let Some(slot) = self.shared.store.branch(origin) else {
                return Err(self.lost());
            };
            branch = Cow::Owned(slot.branch());
        }
    }

    /// The conversation as its thread shows it up to an earlier read, for a caller that sends new text
    /// alone. `None` where it does not show what that read ended with.
    pub async fn messages_of_thread(
        &self,
        thread: &ThreadId,
        seen: &Seen,
    ) -> Result<Option<Vec<Message>>, Error> {
        let mut lost = false;
        let mut out_of_sight = false;
        for failures in 1..=TRANSCRIPT_READS {
            let calls = &self.shared.calls;
            let read = calls.read_at_last(&self.turn.caller, thread, self.limit);
            match read.await {
                Ok(shown) => {
                    if let Some(lines) = in_order(seen, &shown) {
                        return Ok(Some(lines.into_iter().map(quoted).collect()));
                    }
                    out_of_sight = true;
                }
                Err(upstream::ReadError::KeyRefused(status)) => {
                    return Err(Error::KeyRefused(status));
                }
                Err(upstream::ReadError::NoThread) if lost => {
                    return Err(self.lost());
                }
                // What was read before may be lost for a moment only.
                Err(upstream::ReadError::NoThread) => lost = true,
                Err(upstream::ReadError::Busy(_) | upstream::ReadError::Passing(_)) => {}
            }
            sleep(self.shared.pace.back_off(thread, failures, None)).await;
        }
        if out_of_sight {
            return Ok(None);
        }
        Err(Error::Unreachable)
    }
}

/// A line of a thread as a message.
pub fn quoted(line: &Line) -> Message {
    let message = &line.message;
    Message {
        role: match message.role {
            Some(upstream::Role::Assistant) => Role::Assistant,
            Some(upstream::Role::User) | None => Role::User,
        },
        text: message.text.clone().into(),
        calls: Vec::new(),
        answers: None,
        parts: Vec::new(),
    }
}
