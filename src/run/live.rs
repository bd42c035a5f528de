//! The runs under way, and the callers that listen to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::apart::Hashed;
use super::audience::Run;
use super::base::{Ground, keeps_instructions};
use super::calls::Calls;
use super::carry::Carry;
use super::ledger::Ledger;
use super::notes::Notes;
use super::pace::Pace;
use super::responses::kept;
use super::restart::Left;
use super::share::{Share, Shares};
use super::subscription::{Seat, Subscription};
use super::{Answer, Error, Finish, Place, stage};
use crate::clock::{Clock, Moment};
use crate::config::{self, Config};
use crate::conversation::resolve::{Continuation, Hashes, Resolver, Secrets, Unresolved};
use crate::conversation::salt::Salt;
use crate::conversation::transcript::{self, Lead};
use crate::conversation::{Decision, Plan, Turn};
use crate::form::{self, Form};
use crate::ids::{Digest, Handle};
use crate::metrics::{Metrics, Outcome};
use crate::planted::{Bug, is_planted};
use crate::signal::Signal;
use crate::store::backend::{Backend, Nowhere};
use crate::store::record::Phase;
use crate::store::{Bounds, Branch, BranchId, Restored, Store, Told};
use crate::upstream::Upstream;

/// Starts runs, and gives callers a place at them.
#[derive(Clone, Debug)]
pub struct Runner(pub Arc<Shared>);

/// What every run of this process shares.
#[derive(Debug)]
pub struct Shared {
    pub salt: Salt,
    pub calls: Calls,
    pub store: Arc<Store>,
    pub resolver: Resolver,
    pub pace: Pace,
    pub metrics: Arc<Metrics>,
    pub settings: config::Run,
    /// `store.strict`.
    strict: bool,
    /// Bytes of earlier conversation that begin a thread.
    pub transcript: usize,
    /// How often an answer that is not in the form that was asked for is mended.
    pub repairs: u32,
    pub ledger: Ledger,
    pub notes: Notes,
    pub active: Shares,
    pub left: Left,
    tasks: TaskTracker,
    stopped: Signal,
}

/// Why no run was started for a turn.
#[derive(Clone, Debug)]
pub struct NotStarted {
    pub error: Error,
    /// `None` where the turn was not resolved.
    pub place: Option<Place>,
}

impl NotStarted {
    pub fn without_place(error: Error) -> Self {
        Self { error, place: None }
    }
}

/// What runs rest on.
#[derive(Debug)]
pub struct Foundation {
    pub upstream: Arc<dyn Upstream>,
    pub secrets: Secrets,
    pub backend: Arc<dyn Backend>,
    pub clock: Clock,
    pub restored: Restored,
    pub metrics: Arc<Metrics>,
}

impl Foundation {
    /// For runs of which nothing outlives the process.
    pub fn in_memory(upstream: Arc<dyn Upstream>, secrets: Secrets, metrics: Arc<Metrics>) -> Self {
        Self {
            upstream,
            secrets,
            backend: Arc::new(Nowhere),
            clock: Clock::at(Moment::of_wall()),
            restored: Restored::default(),
            metrics,
        }
    }
}

impl Runner {
    pub fn new(config: &Config, foundation: Foundation) -> Self {
        let Foundation {
            upstream,
            secrets,
            backend,
            clock,
            mut restored,
            metrics,
        } = foundation;
        let conversations = &config.conversations;
        let bounds = Bounds {
            max: conversations.max,
            max_age: conversations.max_age,
        };
        let mut store = Store::new(bounds, clock, backend);
        store.restore(restored.whole_branches(), &restored.handles);
        let store = Arc::new(store);
        store.restore_conversations(restored.conversations);
        let salt = secrets.salt.clone();
        let queue = config.run.queue;
        let (side_calls, keep) = (conversations.side_calls, config.run.keep_answers);
        let shared = Shared {
            calls: Calls::new(config, upstream, metrics.clone(), salt.clone()),
            resolver: Resolver::new(secrets, store.clone(), side_calls, queue),
            ledger: Ledger::new(store.clone(), keep, config.run.max_answers),
            notes: Notes::new(bounds.max, bounds.max_age),
            active: Shares::new(config.run.max_active, config.run.max_active_per_key),
            salt,
            pace: Pace::new(&config.pace).kept_in(store.clone(), restored.paces),
            store,
            metrics,
            settings: config.run.clone(),
            strict: config.store.strict,
            repairs: config.structured.repairs,
            transcript: usize::try_from(conversations.transcript).unwrap_or(usize::MAX),
            left: Left::default(),
            tasks: TaskTracker::new(),
            stopped: Signal::default(),
        };
        for (id, turn) in restored.turns {
            shared.restore(id, turn);
        }
        Self(Arc::new(shared))
    }

    /// Finds the thread that the turn belongs to, and starts its run or attaches to one.
    pub fn start(&self, turn: impl Into<Hashed>) -> Result<Subscription, NotStarted> {
        Ok(self.begin(turn.into())?.1)
    }

    /// The run, and a place at it.
    pub fn begin(&self, turn: Hashed) -> Result<(Arc<Run>, Subscription), NotStarted> {
        let Hashed { mut turn, hashes } = turn;
        let shared = &self.0;
        self.resume(&turn.caller);
        let ask = shared.ask(&turn);
        let keyed = ask.keyed.as_ref();
        let kept = kept(&turn);
        let follows = shared.followed(&mut turn);
        let found = follows.as_ref().ok().and_then(Option::as_ref);
        // Before the turnstile, at which others wait.
        let hashes = shared.hashes(&turn, found, hashes);
        let turnstile = shared.ledger.turnstile(keyed);
        let attached = shared
            .ledger
            .attach(&ask.request, keyed, &turn.repeat)
            .map_err(|_| NotStarted::without_place(Error::KeyReused))?;
        if let Some(run) = attached.filter(|_| !is_planted(Bug::NoRepeats)) {
            let ground = Ground::on(follows.ok().flatten());
            let seat = self.attach(run.clone(), turn, hashes, ground);
            return Ok((run, seat));
        }
        let follows = follows.map_err(NotStarted::without_place)?;
        let share = shared.share(&turn, &hashes);
        let share = share.map_err(NotStarted::without_place)?;
        let (resolved, ground, hashes) = shared
            .placed(&mut turn, hashes, follows)
            .map_err(not_resolved)?;
        let run = Run::new(ask, Place::at(&resolved), kept, shared.store.clone());
        let deadline = turn.deadline;
        match resolved.continuation {
            Continuation::Local(text) => {
                if run.response.is_some() {
                    shared.ledger.add(&run);
                }
                run.end(Ok(Arc::new(Answer {
                    text,
                    ..Answer::default()
                })));
                shared
                    .metrics
                    .turn_ended(Decision::Local, Outcome::Completed);
            }
            continuation => {
                shared.ledger.add(&run);
                let mut carry = Carry {
                    shared: shared.clone(),
                    run: run.clone(),
                    turn,
                    hashes,
                    conversation: resolved.conversation,
                    limit: Instant::now() + shared.settings.limit,
                    doubt: false,
                    ground,
                    begins: Some(continuation),
                };
                shared.set_off(async move { carry.out().await }, share);
            }
        }
        drop(turnstile);
        let seat = self.subscribe(run.clone(), deadline, Seat::Own);
        Ok((run, seat))
    }

    /// A place at a run that the request is a repetition of; a run that an earlier process has left is
    /// carried on.
    pub fn attach(
        &self,
        run: Arc<Run>,
        turn: Turn,
        hashes: Hashes,
        ground: Ground,
    ) -> Subscription {
        let shared = &self.0;
        let deadline = turn.deadline;
        run.wants(&turn);
        let Some(left) = run.wake() else {
            return self.subscribe(run, deadline, Seat::Attached);
        };
        let mut carry = Carry {
            shared: shared.clone(),
            run: run.clone(),
            hashes,
            conversation: Handle(left.conversation.as_str().into()),
            limit: Instant::now() + shared.settings.limit,
            doubt: left.phase == Phase::Unknown,
            ground,
            begins: None,
            turn,
        };
        let share = shared.active.take_anyway(run.tenant);
        let was_answered = matches!(left.phase, Phase::Answered(_));
        shared.set_off(async move { carry.on(left).await }, Some(share));
        let seat = if was_answered {
            Seat::Recalled
        } else {
            Seat::Own
        };
        self.subscribe(run, deadline, seat)
    }

    /// What [`Runner::start`] would do; nothing is posted, claimed or remembered.
    pub fn plan(&self, turn: impl Into<Hashed>) -> Result<Plan, NotStarted> {
        let Hashed { mut turn, hashes } = turn.into();
        let shared = &self.0;
        let ask = shared.ask(&turn);
        let attached = shared
            .ledger
            .peek(&ask.request, ask.keyed.as_ref(), &turn.repeat);
        let attached = attached.map_err(|_| NotStarted::without_place(Error::KeyReused))?;
        if let Some(run) = attached {
            return Ok(Plan {
                conversation: run.place().conversation,
                decision: Decision::Attached,
                posts: None,
            });
        }
        let follows = shared.followed(&mut turn);
        let follows = follows.map_err(|error| NotStarted { error, place: None })?;
        let hashes = shared.hashes(&turn, follows.as_ref(), hashes);
        let (decision, conversation, branch) = shared
            .preview(&turn, &hashes, follows.as_ref())
            .map_err(not_resolved)?;
        let lead = match branch.map(|slot| slot.look(Branch::told)) {
            Some(told) => shared.lead_of_append(&turn, &hashes, &told),
            None => Lead {
                instructions: turn.instructions.as_deref(),
                updated: false,
                transcript: transcript::bounded(&turn.history, shared.transcript),
                form: turn.form.as_deref().map(Form::block),
            },
        };
        let prompt = transcript::prompt(&turn.history, &turn.prompt);
        // What a new thread begins with, its old one would have to be read for.
        let is_known =
            decision != Decision::Local && (decision != Decision::Forked || follows.is_none());
        let posts = is_known.then(|| transcript::posted(&lead, prompt));
        Ok(Plan {
            conversation,
            decision,
            posts,
        })
    }

    /// Whether the upstream fails for everyone, or for some key.
    pub fn is_upstream_failing(&self) -> (bool, bool) {
        self.0.calls.is_failing()
    }

    /// Stops every run where it is, and waits for their tasks. The upstream ends them by itself.
    pub async fn shut_down(&self) {
        self.0.stopped.give();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.pace.keep();
    }

    /// Lets other turns come this far first, where there are any that do not sleep until their next poll.
    pub async fn next_stage(&self) {
        self.0.next_stage().await;
    }

    pub fn subscribe(&self, run: Arc<Run>, deadline: Duration, seat: Seat) -> Subscription {
        Subscription::new(run, deadline, seat, self.0.metrics.clone())
    }
}

impl Shared {
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_given()
    }

    /// Lets other turns come this far first, where there are any that do not sleep until their next poll.
    pub async fn next_stage(&self) {
        stage::next(self.tasks.len().saturating_sub(self.calls.dozing())).await;
    }

    /// Waits until what was changed so far outlives the process, as far as it can.
    pub async fn flushed(&self) {
        // Where it cannot, the backend has said so, and the turn goes on without.
        if !is_planted(Bug::NoFlush) {
            let _ = self.store.flushed().await;
        }
    }

    /// As [`Shared::flushed`], for what can wait until the disk has had time to write it unasked.
    pub async fn flushed_unhurried(&self) {
        if !is_planted(Bug::NoFlush) {
            let _ = self.store.flushed_unhurried().await;
        }
    }

    /// As [`Shared::flushed`], where nothing may be posted that is not remembered first.
    pub async fn remembered(&self) -> Result<(), Error> {
        if !self.strict {
            self.flushed().await;
            return Ok(());
        }
        match self.store.flushed().await {
            Ok(()) if !self.store.is_degraded() => Ok(()),
            _ => Err(Error::StateUnwritable),
        }
    }

    /// Makes sure that a branch's thread is never posted to again.
    pub fn close(&self, branch: u64) {
        if let Some(slot) = self.store.branch(BranchId(branch)) {
            self.store.close(&slot);
        }
    }

    /// Ends a run whose task is gone before its end.
    pub fn abandon(&self, run: &Run) {
        if run.has_ended() {
            return;
        }
        if self.is_stopped() {
            // What is remembered stays as it is: the next process goes on from there.
            run.end(Err(Error::ShuttingDown));
            return;
        }
        if let Some(turn) = run.record() {
            self.close(turn.branch);
        }
        let end = Err(Error::Internal);
        run.settle(&end, Digest::default());
        run.end(end);
    }

    /// Carries a run out, whoever listens.
    pub fn set_off(&self, run: impl Future<Output = ()> + Send + 'static, share: Option<Share>) {
        let stopped = self.stopped.clone();
        let active = (share, self.metrics.active());
        // Boxed here: every future that it is moved into on the way would keep room for it.
        let run = Box::pin(run);
        self.tasks.spawn(async move {
            // Moved into another name, it would have room here twice.
            let _active = &active;
            if !stopped.is_given() {
                tokio::select! {
                    biased;
                    () = run => {}
                    () = stopped.given() => {}
                }
            }
        });
    }

    /// What is said around a prompt on a thread that was told this much. Where a request is new text
    /// alone, saying no instructions leaves those that are.
    pub fn lead_of_append<'a>(&self, turn: &'a Turn, hashes: &Hashes, told: &Told) -> Lead<'a> {
        let updated = !keeps_instructions(turn) && hashes.instructions != told.instructions;
        let form = match &turn.form {
            Some(form) if hashes.form == told.form || is_planted(Bug::FormWithheld) => {
                Some(form.reminder())
            }
            Some(form) => Some(form.block()),
            None => told.form.map(|_| form::WITHDRAWN),
        };
        Lead {
            instructions: turn.instructions.as_deref().filter(|_| updated),
            updated,
            transcript: self.added(turn),
            form,
        }
    }
}

fn not_resolved(unresolved: Unresolved) -> NotStarted {
    let place = match &unresolved {
        Unresolved::NoConversation(_) | Unresolved::NoResponse(_) => None,
        Unresolved::TooManyWaiting(handle) => Some(Place {
            conversation: handle.clone(),
            decision: Decision::Appended,
            is_replay: false,
        }),
    };
    NotStarted {
        error: unresolved.into(),
        place,
    }
}

/// How a turn's end is counted.
pub fn outcome(ended: &Result<Arc<Answer>, Error>) -> Outcome {
    match ended {
        Ok(answer) => match answer.finish {
            Finish::Stop | Finish::Calls => Outcome::Completed,
            Finish::Length => Outcome::Incomplete,
        },
        Err(error) => match error {
            Error::Failed(_) | Error::Unformed(_) | Error::Upstream { .. } | Error::Internal => {
                Outcome::Failed
            }
            Error::Cancelled(_) => Outcome::Cancelled,
            Error::Expired | Error::Timeout => Outcome::Expired,
            Error::OutcomeUnknown => Outcome::Unknown,
            Error::Unreachable
            | Error::Failing(_)
            | Error::ShuttingDown
            | Error::StateUnwritable => Outcome::Unreachable,
            Error::NoConversation(_)
            | Error::NoResponse(_)
            | Error::NotFollowable(..)
            | Error::OutOfSight(_)
            | Error::KeyReused
            | Error::TooManyWaiting
            | Error::TooManyRuns
            | Error::Overloaded
            | Error::Refused(_)
            | Error::KeyRefused(_)
            | Error::RateLimited(_) => Outcome::Refused,
        },
    }
}
