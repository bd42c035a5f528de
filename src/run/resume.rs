//! Turns that an earlier process has left: brought to their end, and told to those who ask again.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::answer::Reading;
use super::audience::Run;
use super::carry::{Carry, Outcome};
use super::ending::{Ending, advance, point, said};
use super::live::Shared;
use super::mend::Mend;
use super::poll::{Ended, Poll};
use super::post::{Accepted, Post};
use super::recall::recollect;
use super::{Error, Finish};
use crate::config::OnUnknown;
use crate::conversation::Caller;
use crate::conversation::queue::Held;
use crate::ids::Digest;
use crate::store::record::{Phase, Turn};
use crate::store::{BranchId, Slot};
use crate::upstream::{Posted, ThreadId};

/// A turn whose run may be under way. Nothing of it is posted: its text is not remembered.
#[derive(Debug)]
pub struct Resume {
    pub shared: Arc<Shared>,
    pub run: Arc<Run>,
    pub caller: Caller,
    /// The branch of its thread, where that is remembered.
    pub held: Option<Held>,
    pub turn: Turn,
    pub limit: Instant,
}

/// How it stands with the turn.
enum Stand {
    /// To be told, with what the whole answer is known by.
    Ended(Result<Ending, Error>),
    /// Whoever asks again has it carried on from this phase; who waits is told this.
    Rests(Phase, Error),
    /// As it was left: only another key, or another process, can do more.
    Left(Error),
}

impl Drop for Resume {
    fn drop(&mut self) {
        self.shared.abandon(&self.run);
    }
}

impl Resume {
    /// To the end, whoever listens.
    pub async fn out(self) {
        let thread = self.turn.thread.as_deref().map(|id| ThreadId(id.into()));
        let stand = match &thread {
            Some(thread) => self.stand(thread).await,
            None => Stand::Ended(Err(Error::OutcomeUnknown)),
        };
        match stand {
            Stand::Ended(end) => {
                let whole = end
                    .as_ref()
                    .map_or(Digest::default(), |ending| ending.whole);
                let end = end.map(|ending| Arc::new(ending.answer));
                self.run.settle(&end, whole);
                self.shared.flushed().await;
                self.run.end(end);
            }
            Stand::Rests(phase, error) => {
                self.run.rest(phase);
                self.shared.flushed().await;
                self.shared.put_to_rest(&self.run);
                self.run.end(Err(error));
            }
            Stand::Left(error) => self.run.end(Err(error)),
        }
    }

    async fn stand(&self, thread: &ThreadId) -> Stand {
        let pace = &self.shared.pace;
        // All of them are resumed at once.
        sleep(pace.spread(thread)).await;
        let mut accepted = Accepted {
            posted: Posted {
                thread: thread.clone(),
                status: None,
                failure: None,
            },
            seen: self.turn.seen.clone(),
        };
        if self.turn.phase == Phase::Intended {
            let post = Post {
                calls: &self.shared.calls,
                pace,
                caller: &self.caller,
                limit: self.limit,
            };
            let seen = self.turn.seen.clone();
            accepted = match post.reconcile(thread, seen, self.turn.posted).await {
                Ok(accepted) => accepted,
                Err(_) => return self.unposted(),
            };
            self.run.note(|turn| turn.phase = Phase::Accepted);
        }
        let poll = Poll {
            calls: &self.shared.calls,
            pace,
            metrics: &self.shared.metrics,
            caller: &self.caller,
            thread,
            mark: self.turn.posted,
            limit: self.limit,
            wary: true,
            age: self.shared.store.now().since(self.turn.times.began),
            run: &self.run,
        };
        let report = |polls, _: &str| self.run.report(|progress| progress.polls = polls);
        match poll.follow(&accepted, report).await {
            Ended::Answered(reading, finish) => self.answered(&reading, finish).await,
            Ended::Lost => {
                self.close();
                Stand::Rests(Phase::Lost, interrupted())
            }
            Ended::Failed(error @ Error::KeyRefused(_)) => Stand::Left(error),
            Ended::Failed(error) => {
                self.close();
                Stand::Ended(Err(error))
            }
        }
    }

    /// The message did not come to its thread, as far as can be told: it may come yet.
    fn unposted(&self) -> Stand {
        self.close();
        match self.shared.settings.on_unknown {
            OnUnknown::Replay => Stand::Rests(Phase::Unknown, interrupted()),
            OnUnknown::Tell => Stand::Ended(Err(Error::OutcomeUnknown)),
        }
    }

    async fn answered(&self, reading: &Reading, finish: Finish) -> Stand {
        let salt = &self.shared.salt;
        let Some(wanted) = self.run.wanted() else {
            // Where it is cut, or in which form it is wanted, and so what its caller will show of it, only
            // the request says.
            let whole = said(salt, reading.text.as_deref().unwrap_or_default());
            return Stand::Rests(Phase::Answered(whole), interrupted());
        };
        let mend = Mend {
            shared: &self.shared,
            run: &self.run,
            caller: &self.caller,
            wanted: &wanted,
            limit: self.limit,
        };
        let ending = match mend.ending(reading, finish).await {
            Ok(ending) => ending,
            Err(error @ Error::KeyRefused(_)) => return Stand::Left(error),
            Err(error) => {
                self.close();
                return Stand::Ended(Err(error));
            }
        };
        let point = point(salt, &self.turn, &ending, reading);
        self.run.reach(&point);
        match &self.held {
            Some(held) => {
                let told = (&ending, reading);
                advance(&self.run, &held.slot, &self.turn, told, point);
            }
            None => self.run.note(|turn| ending.note(turn)),
        }
        Stand::Ended(Ok(ending))
    }

    fn close(&self) {
        self.shared.close(self.turn.branch);
    }
}

/// Told to a caller that had attached: asking again has the turn carried on.
pub fn interrupted() -> Error {
    Error::Upstream {
        what: "a restart of the proxy interrupted the turn; send the same request again".to_owned(),
        posted: false,
    }
}

impl Carry {
    /// To the end, from where an earlier process has left the turn.
    pub async fn on(&mut self, left: Turn) {
        let shown = recollect(&self.shared, &self.turn.caller, &left, self.limit).await;
        let outcome = match shown {
            Ok(Some((reading, finish))) => match self.recall(&left, &reading, finish).await {
                Err(error) if !error.stands() => return self.rest(error),
                outcome => outcome,
            },
            Ok(None) => self.anew().await,
            Err(error) => return self.rest(error),
        };
        self.tell(outcome).await;
    }

    /// Nothing more can be done here: the next who asks has the turn carried on.
    fn rest(&self, error: Error) {
        self.shared.put_to_rest(&self.run);
        self.run.end(Err(error));
    }

    /// As a turn that nothing came of.
    async fn anew(&mut self) -> Outcome {
        let follows = self.ground.follows.as_ref();
        let resolved = self.shared.resolve(&self.turn, &self.hashes, follows);
        let resolved = resolved.map_err(Error::from)?;
        self.conversation.clone_from(&resolved.conversation);
        self.run.report(|progress| {
            progress
                .place
                .conversation
                .clone_from(&resolved.conversation);
            progress.place.decision = resolved.decision;
        });
        self.begins = Some(resolved.continuation);
        let outcome = self.steps().await;
        self.doubted(outcome)
    }

    /// The answer that the turn had. Where only this request says how much of it its caller sees, or in
    /// which form, the tip is moved by it.
    async fn recall(&self, left: &Turn, reading: &Reading, finish: Finish) -> Outcome {
        let ending = match self.ending(reading, finish).await {
            Ok(ending) => ending,
            Err(error) => {
                if error.stands() {
                    self.shared.close(left.branch);
                }
                return Err(error);
            }
        };
        let slot = self.shared.store.branch(BranchId(left.branch));
        // An answer that was mended stands on a thread of its own; the tip was moved by it before.
        let is_its_own = |slot: &Arc<Slot>| {
            let thread = left.thread.as_deref();
            slot.look(|branch| branch.thread.as_ref().map(|id| &*id.0) == thread)
        };
        let Some(slot) = slot.filter(is_its_own) else {
            self.run.note(|turn| ending.note(turn));
            return Ok(ending);
        };
        let point = point(&self.shared.salt, left, &ending, reading);
        self.run.reach(&point);
        if let Some(_lease) = slot.try_lease() {
            let told = (&ending, reading);
            advance(&self.run, &slot, left, told, point);
        } else {
            self.run.note(|turn| ending.note(turn));
        }
        Ok(ending)
    }
}
