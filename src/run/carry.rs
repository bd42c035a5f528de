//! Carries one turn out: on the thread it belongs to, or on a new one where that thread is lost.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::answer::Reading;
use super::baseline::in_order;
use super::clip::{self, Clip};
use super::ledger::Run;
use super::live::{Shared, outcome};
use super::poll::{Ended, Poll};
use super::post::{Accepted, Post, Unposted};
use super::{Answer, Error, Finish};
use crate::config::OnUnknown;
use crate::conversation::fingerprint::digest;
use crate::conversation::resolve::{Continuation, Hashes, Held};
use crate::conversation::transcript::{self, Lead};
use crate::conversation::{Decision, Message, Role, Turn};
use crate::ids::Handle;
use crate::store::{Slot, State};
use crate::upstream::{self, ThreadId};

/// Reads of a thread that a transcript is wanted of.
const TRANSCRIPT_READS: u32 = 3;

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
}

/// What is to be done next.
enum Step {
    Append(Held),
    Begin(Beginning),
    Replay(Held, Why),
    Done(Result<Arc<Answer>, Error>),
}

/// A thread to begin.
struct Beginning {
    held: Held,
    transcript: Option<String>,
    /// An earlier attempt may have reached the upstream; no later refusal changes that.
    ambiguous: bool,
    /// What the conversation leads to again if nothing comes of it, and whether in delta mode.
    before: Option<(Arc<Slot>, bool)>,
}

/// Why a thread is left for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Closed,
    Lost,
    Foreign,
    Unknown,
}

impl Drop for Carry {
    fn drop(&mut self) {
        self.run.end(Err(if self.shared.is_stopped() {
            Error::ShuttingDown
        } else {
            Error::Internal
        }));
    }
}

impl Carry {
    /// To the end, whoever listens.
    pub async fn out(self, continuation: Continuation) {
        let ended = self.steps(continuation).await;
        let decision = self.run.watch().borrow().place.decision;
        self.shared.metrics.turn_ended(decision, outcome(&ended));
        self.run.end(ended);
    }

    async fn steps(&self, continuation: Continuation) -> Result<Arc<Answer>, Error> {
        let mut step = self.first(continuation).await?;
        let mut replayed = false;
        loop {
            step = match step {
                Step::Append(held) => self.append(held).await,
                Step::Begin(beginning) => self.begin(beginning).await,
                Step::Replay(held, why) if !replayed => {
                    replayed = true;
                    self.replay(held, why).await?
                }
                Step::Replay(held, _) => {
                    held.slot.change(|branch| branch.state = State::Closed);
                    return Err(Error::Upstream {
                        what: "the thread was lost twice".to_owned(),
                        posted: true,
                    });
                }
                Step::Done(ended) => return ended,
            };
        }
    }

    /// Waits for the lease where it is not held yet.
    async fn first(&self, mut continuation: Continuation) -> Result<Step, Error> {
        loop {
            let waiting = match continuation {
                Continuation::Append(held) => return Ok(Step::Append(held)),
                Continuation::Begin(held) => {
                    return Ok(Step::Begin(Beginning {
                        held,
                        transcript: self.transcript_of_history(),
                        ambiguous: false,
                        before: None,
                    }));
                }
                Continuation::Local(text) => {
                    return Ok(Step::Done(Ok(Arc::new(Answer {
                        text,
                        ..Answer::default()
                    }))));
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

    async fn append(&self, held: Held) -> Step {
        let branch = held.slot.branch();
        let Some(thread) = branch.open_thread() else {
            return Step::Replay(held, Why::Closed);
        };
        let lead = self
            .shared
            .lead_of_append(&self.turn, &self.hashes, &branch.instructions);
        let text = transcript::posted(&lead, &self.prompt());
        let accepted = match self.post().append(&thread, branch.seen, &text).await {
            Ok(accepted) => accepted,
            Err(Unposted::Refused(error)) => return Step::Done(Err(error)),
            Err(Unposted::Lost) => return Step::Replay(held, Why::Lost),
            Err(Unposted::Foreign) => return Step::Replay(held, Why::Foreign),
            Err(Unposted::Unknown) => return Step::Replay(held, Why::Unknown),
        };
        if lead.updated {
            held.slot
                .change(|branch| branch.instructions = self.hashes.instructions);
        }
        self.follow(held, &accepted, &text).await
    }

    async fn begin(&self, beginning: Beginning) -> Step {
        let held = beginning.held;
        let lead = Lead {
            instructions: self.turn.instructions.as_deref(),
            updated: false,
            transcript: beginning.transcript,
        };
        let text = transcript::posted(&lead, &self.prompt());
        let error = match self.post().begin(&text).await {
            Ok(accepted) => {
                held.slot.change(|branch| {
                    branch.thread = Some(accepted.posted.thread.clone());
                    branch.state = State::Open;
                });
                return self.follow(held, &accepted, &text).await;
            }
            Err(_) if beginning.ambiguous => Error::OutcomeUnknown,
            Err(Unposted::Refused(error)) => error,
            Err(Unposted::Unknown | Unposted::Lost | Unposted::Foreign) => Error::OutcomeUnknown,
        };
        self.shared.store.forget(held.slot.id);
        if let Some((slot, delta)) = beginning.before {
            self.shared
                .store
                .set_handle(&self.conversation, &slot, delta);
        }
        Step::Done(Err(error))
    }

    async fn follow(&self, held: Held, accepted: &Accepted, text: &str) -> Step {
        self.run.report(|progress| progress.accepted = true);
        let poll = Poll {
            calls: &self.shared.calls,
            pace: &self.shared.pace,
            metrics: &self.shared.metrics,
            caller: &self.turn.caller,
            thread: &accepted.posted.thread,
            text,
            limit: self.limit,
            run: &self.run,
        };
        let mut shown = Shown::new(&self.turn);
        let ended = poll
            .follow(accepted, |polls, text| {
                let may_be_sent = shown.show(text);
                self.run.report(|progress| {
                    progress.polls = polls;
                    progress.text = may_be_sent;
                });
            })
            .await;
        match ended {
            Ended::Answered(reading, finish) => {
                Step::Done(Ok(self.conclude(&held, reading, finish)))
            }
            Ended::Lost => Step::Replay(held, Why::Lost),
            Ended::Failed(error) => {
                held.slot.change(|branch| branch.state = State::Closed);
                Step::Done(Err(error))
            }
        }
    }

    /// Moves the tip over the turn, as its caller sees it, before anybody is told.
    fn conclude(&self, held: &Held, reading: Reading, finish: Finish) -> Arc<Answer> {
        let whole = reading.text.unwrap_or_default();
        let (text, cut) = clip::cut(&self.turn.limits, &whole);
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
                .into_iter()
                .filter(|annotation| annotation.end <= chars)
                .collect(),
            text,
        };
        let salt = &self.shared.salt;
        let said = Message {
            role: Role::Assistant,
            text: answer.text.clone(),
            calls: Vec::new(),
            answers: None,
            parts: Vec::new(),
        };
        let mut new = self.hashes.prompt.clone();
        new.push(digest(salt, &said));
        self.shared.store.advance(&held.slot, |branch| {
            let tip = new
                .iter()
                .fold(branch.tip, |tip, digest| tip.then(salt, digest));
            branch.advance(tip, &new);
            branch.seen = Some(reading.seen);
            if reading.foreign {
                branch.state = State::Closed;
            }
        });
        Arc::new(answer)
    }

    /// Leaves a thread for a new one, which begins with what the conversation has been so far.
    async fn replay(&self, old: Held, why: Why) -> Result<Step, Error> {
        let branch = old.slot.branch();
        old.slot.change(|branch| branch.state = State::Closed);
        if why == Why::Unknown && self.shared.settings.on_unknown == OnUnknown::Tell {
            return Err(Error::OutcomeUnknown);
        }
        let transcript = if !self.turn.history.is_empty() {
            self.transcript_of_history()
        } else if branch.seen.is_none() {
            None
        } else if why == Why::Lost {
            self.shared.store.forget(old.slot.id);
            return Err(Error::NoConversation(self.conversation.to_string()));
        } else {
            let thread = branch.thread.as_ref().ok_or(Error::Internal)?;
            self.transcript_of_thread(thread, &branch.seen.unwrap_or_default())
                .await
                .map_err(|error| match why {
                    Why::Unknown => Error::OutcomeUnknown,
                    Why::Closed | Why::Lost | Why::Foreign => error,
                })?
        };
        let key = (self.turn.caller.tenant, self.conversation.clone());
        let record = self.shared.store.handle(&key);
        let delta = record.is_none_or(|record| record.delta);
        let held = self
            .shared
            .resolver
            .anew(&self.turn, &self.hashes, &self.conversation);
        if self.turn.history.is_empty() {
            held.slot.change(|new| {
                new.tip = branch.tip;
                new.window = branch.window;
            });
        }
        self.run
            .report(|progress| progress.place.decision = Decision::Replayed);
        Ok(Step::Begin(Beginning {
            held,
            transcript,
            ambiguous: why == Why::Unknown,
            before: Some((old.slot, delta)),
        }))
    }

    fn transcript_of_history(&self) -> Option<String> {
        transcript::bounded(&self.turn.history, self.shared.transcript)
    }

    /// The conversation as its thread shows it up to our last read, for a caller that sends new
    /// text alone.
    async fn transcript_of_thread(
        &self,
        thread: &ThreadId,
        seen: &crate::store::Seen,
    ) -> Result<Option<String>, Error> {
        for failures in 1..=TRANSCRIPT_READS {
            match self.shared.calls.read(&self.turn.caller, thread).await {
                Ok(shown) => {
                    let messages: Vec<Message> =
                        in_order(seen, &shown).into_iter().map(quoted).collect();
                    return Ok(transcript::bounded(&messages, self.shared.transcript));
                }
                Err(upstream::ReadError::KeyRefused(status)) => {
                    return Err(Error::KeyRefused(status));
                }
                Err(upstream::ReadError::NoThread) => {
                    return Err(Error::NoConversation(self.conversation.to_string()));
                }
                Err(upstream::ReadError::Busy(_) | upstream::ReadError::Passing(_)) => {
                    sleep(self.shared.pace.back_off(thread, failures, None)).await;
                }
            }
        }
        Err(Error::Unreachable)
    }

    fn prompt(&self) -> String {
        transcript::prompt(&self.turn.history, &self.turn.prompt)
    }

    fn post(&self) -> Post<'_> {
        Post {
            calls: &self.shared.calls,
            pace: &self.shared.pace,
            caller: &self.turn.caller,
            limit: self.limit,
        }
    }
}

/// The growing text, as far as it may be sent.
struct Shown<'a> {
    turn: &'a Turn,
    clip: Clip,
    whole: String,
    sent: String,
}

impl<'a> Shown<'a> {
    fn new(turn: &'a Turn) -> Self {
        Self {
            turn,
            clip: Clip::new(&turn.limits),
            whole: String::new(),
            sent: String::new(),
        }
    }

    fn show(&mut self, text: &str) -> Arc<str> {
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

fn quoted(message: &upstream::Message) -> Message {
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
