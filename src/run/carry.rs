//! Carries one turn out: on the thread it belongs to, or on a new one where that thread is lost.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::answer::Reading;
use super::audience::Run;
use super::base::Ground;
use super::ending::{Ending, advance, point};
use super::growth::Shown;
use super::live::{Shared, outcome};
use super::mend::{Mend, Wanted};
use super::poll::{Ended, Poll};
use super::post::{Accepted, Post, Unposted};
use super::progress::{Progress, withdrawn};
use super::{Answer, Error, Finish};
use crate::conversation::Turn;
use crate::conversation::queue::Held;
use crate::conversation::resolve::{Continuation, Hashes};
use crate::conversation::transcript::{self, Lead};
use crate::form::Form;
use crate::ids::{Digest, Handle, Mark, cut};
use crate::planted::{Bug, is_planted};
use crate::store::record::{self, Cut, Phase, Times};
use crate::store::{Branch, Seen, Slot, State, WINDOW};
use crate::upstream::ThreadId;

/// One turn under way. Dropped before its end, it ends as [`Error::Internal`].
#[derive(Debug)]
pub struct Carry {
    pub shared: Arc<Shared>,
    pub run: Arc<Run>,
    pub turn: Turn,
    pub hashes: Hashes,
    pub conversation: Handle,
    /// When the run is given up.
    pub limit: Instant,
    pub ground: Ground,
    /// What it begins with, until it has begun.
    pub begins: Option<Continuation>,
    /// An attempt may have reached the upstream; no later refusal changes that.
    pub doubt: bool,
}

/// What a turn came to.
pub type Outcome = Result<Ending, Error>;

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    Append(Held),
    Begin(Beginning),
    Replay(Held, Why),
    Done(Outcome),
}

/// A thread to begin.
#[derive(Debug)]
pub struct Beginning {
    pub held: Held,
    pub transcript: Option<String>,
    /// What the conversation leads to again if nothing comes of it, and whether in delta mode.
    pub before: Option<(Arc<Slot>, bool)>,
}

/// A message that is on its thread.
struct There {
    held: Held,
    accepted: Accepted,
    mark: Mark,
}

/// Why a thread is left for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Closed,
    Lost,
    /// As above, with our message in it.
    Vanished,
    Foreign,
    Unknown,
}

impl Drop for Carry {
    fn drop(&mut self) {
        self.shared.abandon(&self.run);
    }
}

impl Carry {
    /// To the end, whoever listens.
    pub async fn out(&mut self) {
        self.shared.next_stage().await;
        let outcome = self.steps().await;
        self.tell(self.doubted(outcome)).await;
    }

    /// Tells the outcome once it outlives the process.
    pub async fn tell(&mut self, outcome: Outcome) {
        let whole = outcome
            .as_ref()
            .map_or(Digest::default(), |ending| ending.whole);
        let ended = outcome.map(|ending| Arc::new(ending.answer));
        self.run.settle(&ended, whole);
        self.put_back();
        self.shared.flushed().await;
        let decision = self.run.place().decision;
        self.shared
            .metrics
            .turn_ended(decision, self::outcome(&ended));
        self.run.end(ended);
    }

    /// What the steps came to, where a message may have been posted that nobody has seen.
    pub fn doubted(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Err(error) if self.doubt && !error.stands() && !is_planted(Bug::DoubtFades) => {
                Err(Error::OutcomeUnknown)
            }
            outcome => outcome,
        }
    }

    /// What the turn comes to. Runs are waited for by the thousand: what comes before the wait is boxed, and
    /// gone when it begins.
    pub async fn steps(&mut self) -> Outcome {
        let begins = self.begins.take().ok_or(Error::Internal)?;
        let mut step = Box::pin(self.first(begins)).await?;
        let mut replayed = false;
        loop {
            let there = match Box::pin(self.posted(step, &mut replayed)).await {
                Ok(there) => there,
                Err(outcome) => return outcome,
            };
            match self.follow(&there).await {
                Some(outcome) => return outcome,
                None => step = Step::Replay(there.held, Why::Vanished),
            }
        }
    }

    /// The message on the thread that it belongs to, or what the turn came to without.
    async fn posted(&mut self, mut step: Step, replayed: &mut bool) -> Result<There, Outcome> {
        loop {
            let there = match step {
                Step::Append(held) => self.append(held).await,
                Step::Begin(beginning) => self.begin(beginning).await,
                Step::Replay(held, why) if !*replayed => {
                    *replayed = true;
                    self.doubt |= matches!(why, Why::Unknown | Why::Vanished);
                    Err(Box::pin(self.replay(held, why)).await.map_err(Err)?)
                }
                Step::Replay(held, _) => {
                    self.shared.store.close(&held.slot);
                    return Err(Err(Error::Upstream {
                        what: "the thread was lost twice".to_owned(),
                        posted: true,
                    }));
                }
                Step::Done(outcome) => return Err(outcome),
            };
            step = match there {
                Ok(there) => {
                    self.shared.next_stage().await;
                    return Ok(there);
                }
                Err(step) => step,
            };
        }
    }

    /// Waits for the lease where it is not held yet.
    async fn first(&self, mut continuation: Continuation) -> Result<Step, Error> {
        loop {
            let waiting = match continuation {
                Continuation::Append(held) => return Ok(Step::Append(held)),
                Continuation::Begin(held, before) => {
                    let transcript = match self.opening_of(&held).await {
                        Ok(transcript) => transcript,
                        Err(error) => {
                            self.shared.store.forget(held.slot.id);
                            return Err(error);
                        }
                    };
                    return Ok(Step::Begin(Beginning {
                        held,
                        transcript,
                        before: before.and_then(|leads| {
                            let slot = self.shared.store.branch(leads.branch)?;
                            Some((slot, leads.delta))
                        }),
                    }));
                }
                Continuation::Local(text) => {
                    let answer = Answer {
                        text,
                        ..Answer::default()
                    };
                    return Ok(Step::Done(Ok(Ending::of(&self.shared.salt, answer, ""))));
                }
                Continuation::Wait(waiting) => waiting,
            };
            let Ok(held) = timeout_at(self.limit, waiting.held()).await else {
                return Err(Error::TooManyWaiting);
            };
            let key = (self.turn.caller.tenant, self.conversation.clone());
            let leads_here = self
                .shared
                .store
                .handle(&key)
                .is_some_and(|record| record.branch == held.slot.id);
            match held.slot.look(|branch| branch.state) {
                State::Open if leads_here => return Ok(Step::Append(held)),
                State::Closed if leads_here => return Ok(Step::Replay(held, Why::Closed)),
                // Its first turn broke off before anything was posted.
                State::Unborn if leads_here => self.shared.store.forget(held.slot.id),
                State::Open | State::Closed | State::Unborn => drop(held),
            }
            // The conversation has moved on while this request waited.
            let resolved = self
                .shared
                .resolver
                .resolve(&self.turn, &self.hashes)
                .map_err(Error::from)?;
            self.run
                .report(|progress| progress.place.decision = resolved.decision);
            continuation = resolved.continuation;
        }
    }

    /// The message on its thread, or what is to be done next.
    async fn append(&self, held: Held) -> Result<There, Step> {
        self.shared.store.touch(&held.slot);
        let open = held.slot.look(|branch| {
            let thread = branch.open_thread()?;
            Some((thread, branch.told(), branch.seen.clone(), branch.doubted))
        });
        let Some((thread, told, seen, doubted)) = open else {
            return Err(Step::Replay(held, Why::Closed));
        };
        let lead = self.shared.lead_of_append(&self.turn, &self.hashes, &told);
        let text = transcript::posted(&lead, self.prompt());
        let mark = self.shared.mark(&text).await;
        if self.hashes.form != told.form {
            // Until the message is known to be there, nobody knows what the thread was told last.
            let doubt = |branch: &mut Branch| branch.form = Some(Digest::default());
            self.shared.store.change(&held.slot, doubt);
        }
        let posted = async {
            let seen = self.post().baseline(&thread, seen, doubted).await?;
            self.intend(&held, Some(&thread), seen.clone(), mark)
                .await
                .map_err(Unposted::Refused)?;
            self.post().append(&thread, seen, &text, mark).await
        };
        let accepted = match posted.await {
            Ok(accepted) => accepted,
            Err(Unposted::Refused(error)) => return Err(Step::Done(Err(error))),
            Err(Unposted::Lost) => return Err(Step::Replay(held, Why::Lost)),
            Err(Unposted::Foreign) => return Err(Step::Replay(held, Why::Foreign)),
            Err(Unposted::Unknown) => return Err(Step::Replay(held, Why::Unknown)),
        };
        let noted = |turn: &mut record::Turn| turn.phase = Phase::Accepted;
        if lead.updated || self.hashes.form != told.form {
            self.run.note_with(&held.slot, noted, |branch| {
                if lead.updated {
                    branch.instructions = self.hashes.instructions;
                }
                branch.form = self.hashes.form;
            });
        } else {
            self.run.note(noted);
        }
        Ok(There {
            held,
            accepted,
            mark,
        })
    }

    /// The message on a new thread, or what is to be done next.
    async fn begin(&self, beginning: Beginning) -> Result<There, Step> {
        let held = beginning.held;
        let lead = Lead {
            instructions: self.turn.instructions.as_deref(),
            updated: false,
            transcript: beginning.transcript,
            form: self.turn.form.as_deref().map(Form::block),
        };
        let text = transcript::posted(&lead, self.prompt());
        let mark = self.shared.mark(&text).await;
        let posted = async {
            self.intend(&held, None, Seen::default(), mark)
                .await
                .map_err(Unposted::Refused)?;
            self.post().begin(&text).await
        };
        let error = match posted.await {
            Ok(accepted) => {
                let thread = &accepted.posted.thread;
                let noted = |turn: &mut record::Turn| {
                    turn.phase = Phase::Accepted;
                    turn.thread = Some(thread.to_string());
                };
                self.run.note_with(&held.slot, noted, |branch| {
                    branch.thread = Some(thread.clone());
                    branch.state = State::Open;
                });
                return Ok(There {
                    held,
                    accepted,
                    mark,
                });
            }
            Err(Unposted::Refused(error)) => error,
            Err(Unposted::Unknown | Unposted::Lost | Unposted::Foreign) => Error::OutcomeUnknown,
        };
        let key = (self.turn.caller.tenant, self.conversation.clone());
        let leads = self.shared.store.handle(&key);
        if let Some((slot, delta)) = beginning.before
            && leads.is_some_and(|leads| leads.branch == held.slot.id)
        {
            self.shared
                .store
                .set_handle(&self.conversation, &slot, delta);
        }
        self.shared.store.forget(held.slot.id);
        Err(Step::Done(Err(error)))
    }

    /// Remembers that a message is about to be posted, before it is.
    async fn intend(
        &self,
        held: &Held,
        thread: Option<&ThreadId>,
        seen: Seen,
        posted: Mark,
    ) -> Result<(), Error> {
        let salt = &self.shared.salt;
        let prompt = &self.hashes.prompt;
        let before = held.slot.look(|branch| branch.tip);
        let limits = &self.turn.limits;
        if is_planted(Bug::NoIntent) {
            return Ok(());
        }
        if self.run.is_withdrawn() {
            return Err(withdrawn());
        }
        self.run.intend(record::Turn {
            tenant: self.turn.caller.tenant,
            request: self.run.request,
            keyed: self.run.keyed,
            conversation: self.conversation.to_string(),
            branch: held.slot.id.0,
            thread: thread.map(ToString::to_string),
            posted,
            seen,
            before,
            prompted: prompt
                .iter()
                .fold(before, |tip, digest| tip.then(salt, digest)),
            window: prompt
                .iter()
                .skip(prompt.len().saturating_sub(WINDOW))
                .map(cut)
                .collect(),
            cut: if limits.stop.is_empty() && self.turn.form.is_none() {
                Cut::At(limits.max_tokens)
            } else {
                Cut::Unsaid
            },
            phase: Phase::Intended,
            times: Times::default(),
            kept: None,
        });
        self.shared.remembered().await
    }

    /// Waits for the answer. `None` where the upstream has lost the thread.
    async fn follow(&self, there: &There) -> Option<Outcome> {
        let (reading, finish) = match self.to_its_end(there).await {
            Ended::Answered(reading, finish) => (reading, finish),
            Ended::Lost => {
                self.run.report(Progress::lose);
                return None;
            }
            Ended::Failed(error) => {
                self.close(there);
                return Some(Err(error));
            }
        };
        let answered = Box::pin(self.answered(there, reading, finish)).await;
        if answered.is_err() {
            self.close(there);
        }
        Some(answered)
    }

    /// Nothing is posted any more on a thread whose run has failed.
    fn close(&self, there: &There) {
        if !(is_planted(Bug::CancelFrees) && self.run.is_withdrawn()) {
            self.shared.store.close(&there.held.slot);
        }
    }

    /// How the run ends. That the upstream has the message is told once that outlives the process.
    async fn to_its_end(&self, there: &There) -> Ended {
        let accepted = &there.accepted;
        let poll = Poll {
            calls: &self.shared.calls,
            pace: &self.shared.pace,
            metrics: &self.shared.metrics,
            caller: &self.turn.caller,
            thread: &accepted.posted.thread,
            mark: there.mark,
            limit: self.limit,
            wary: false,
            age: Duration::ZERO,
            run: &self.run,
        };
        let mut shown = Shown::new(&self.turn);
        let mut following = pin!(poll.follow(accepted, |polls, text| {
            let may_be_sent = shown.show(text);
            self.run.report(|progress| {
                progress.polls = polls;
                progress.grow(may_be_sent);
            });
        }));
        tokio::select! {
            biased;
            // It is told with its end.
            ended = following.as_mut() => return ended,
            () = Box::pin(self.shared.flushed_unhurried()) => {}
        }
        self.run.report(|progress| progress.accepted = true);
        following.await
    }

    /// The answer that the thread shows, which the conversation goes on from.
    async fn answered(&self, there: &There, reading: Reading, finish: Finish) -> Outcome {
        self.shared.next_stage().await;
        let Some(turn) = self.run.record() else {
            return Err(Error::Internal);
        };
        let ending = self.ending(&reading, finish).await?;
        let point = point(&self.shared.salt, &turn, &ending, &reading);
        self.run.reach(&point);
        let told = (&ending, &reading);
        advance(&self.run, &there.held.slot, &turn, told, point);
        Ok(ending)
    }

    /// The answer, in the form that is wanted.
    pub async fn ending(&self, reading: &Reading, finish: Finish) -> Result<Ending, Error> {
        let mend = Mend {
            shared: &self.shared,
            run: &self.run,
            caller: &self.turn.caller,
            wanted: &Wanted::by(&self.turn),
            limit: self.limit,
        };
        mend.ending(reading, finish).await
    }

    pub fn prompt(&self) -> String {
        let Turn {
            history, prompt, ..
        } = &self.turn;
        transcript::prompt_after(&self.ground.calls, history, prompt)
    }

    pub fn post(&self) -> Post<'_> {
        Post {
            calls: &self.shared.calls,
            pace: &self.shared.pace,
            caller: &self.turn.caller,
            limit: self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_waited_for_takes_little_room() {
        fn room<'a, F>(_: impl FnOnce(&'a mut Carry) -> F) -> usize {
            size_of::<F>()
        }

        let room = size_of::<Carry>() + room(Carry::out);

        assert!(room <= 2048, "{room}");
    }
}
