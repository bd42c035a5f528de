//! The runs under way, and the callers that listen to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::Calls;
use super::carry::Carry;
use super::ledger::{Leaving, Ledger, Progress, RequestKey, Run};
use super::pace::Pace;
use super::share::{Full, Share, Shares};
use super::{Answer, Error, Finish, Place, RunEvent};
use crate::config::{self, Config};
use crate::conversation::resolve::{Continuation, Hashes, Resolver, Unresolved};
use crate::conversation::salt::Salt;
use crate::conversation::transcript::{self, Lead};
use crate::conversation::{Decision, Plan, Turn};
use crate::metrics::{self, Metrics, Outcome, Shed};
use crate::store::Store;
use crate::upstream::Upstream;

/// Starts runs, and gives callers a place at them.
#[derive(Clone, Debug)]
pub struct Runner(Arc<Shared>);

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
    /// Bytes of earlier conversation that begin a thread.
    pub transcript: usize,
    ledger: Ledger,
    active: Shares,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

/// Why no run was started for a turn.
#[derive(Clone, Debug)]
pub struct NotStarted {
    pub error: Error,
    /// `None` where the turn was not resolved.
    pub place: Option<Place>,
}

/// One caller's place at a run. Dropped before [`Subscription::delivered`], it is a hang-up.
#[derive(Debug)]
pub struct Subscription {
    run: Arc<Run>,
    progress: watch::Receiver<Progress>,
    /// What this caller has been sent.
    sent: Arc<str>,
    accepted: bool,
    attached: bool,
    deadline: Instant,
    /// How it ends once the last byte is written.
    leaving: Leaving,
    /// How it ended.
    left: Leaving,
    metrics: Arc<Metrics>,
    _waiting: metrics::Waiting,
}

impl Runner {
    pub fn new(
        config: &Config,
        upstream: Arc<dyn Upstream>,
        salt: Salt,
        metrics: Arc<Metrics>,
    ) -> Self {
        let conversations = &config.conversations;
        let store = Arc::new(Store::new(conversations.max, conversations.max_age));
        let queue = config.run.queue;
        Self(Arc::new(Shared {
            calls: Calls::new(config, upstream, metrics.clone(), salt.clone()),
            resolver: Resolver::new(salt.clone(), store.clone(), conversations.side_calls, queue),
            salt,
            store,
            pace: Pace::new(&config.pace),
            metrics,
            settings: config.run.clone(),
            transcript: usize::try_from(conversations.transcript).unwrap_or(usize::MAX),
            ledger: Ledger::new(config.run.keep_answers, config.run.max_answers),
            active: Shares::new(config.run.max_active, config.run.max_active_per_key),
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
        }))
    }

    /// Finds the thread that the turn belongs to, and starts its run or attaches to one.
    pub fn start(&self, turn: Turn) -> Result<Subscription, NotStarted> {
        let shared = &self.0;
        let unresolved = |error| NotStarted { error, place: None };
        let request = shared.request_key(&turn);
        let keyed = shared.idempotency_key(&turn);
        let turnstile = shared.ledger.turnstile(keyed.as_ref());
        let attached = shared
            .ledger
            .attach(&request, keyed.as_ref(), &turn.repeat)
            .map_err(|_| unresolved(Error::KeyReused))?;
        if let Some(run) = attached {
            return Ok(self.subscribe(run, turn.deadline, true));
        }
        let hashes = Hashes::of(&shared.salt, &turn);
        let share = shared.share(&turn, &hashes).map_err(unresolved)?;
        let resolved = shared
            .resolver
            .resolve(&turn, &hashes)
            .map_err(not_resolved)?;
        let place = Place {
            conversation: resolved.conversation.to_string(),
            decision: resolved.decision,
        };
        let run = Run::new(request, keyed, place);
        let deadline = turn.deadline;
        match resolved.continuation {
            Continuation::Local(text) => {
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
                let carry = Carry {
                    shared: shared.clone(),
                    run: run.clone(),
                    turn,
                    hashes,
                    conversation: resolved.conversation,
                    limit: Instant::now() + shared.settings.limit,
                };
                let stopped = shared.stopped.clone();
                let active = (share, shared.metrics.active());
                let carried = async move {
                    let _active = active;
                    stopped.run_until_cancelled(carry.out(continuation)).await
                };
                shared.tasks.spawn(Box::pin(carried));
            }
        }
        drop(turnstile);
        Ok(self.subscribe(run, deadline, false))
    }

    /// What [`Runner::start`] would do; nothing is posted, claimed or remembered.
    pub fn plan(&self, turn: &Turn) -> Result<Plan, NotStarted> {
        let shared = &self.0;
        let request = shared.request_key(turn);
        let keyed = shared.idempotency_key(turn);
        let attached = shared.ledger.peek(&request, keyed.as_ref(), &turn.repeat);
        let attached = attached.map_err(|_| NotStarted {
            error: Error::KeyReused,
            place: None,
        })?;
        if let Some(run) = attached {
            return Ok(Plan {
                conversation: run.watch().borrow().place.conversation.clone(),
                decision: Decision::Attached,
                posts: None,
            });
        }
        let hashes = Hashes::of(&shared.salt, turn);
        let (decision, conversation, branch) = shared
            .resolver
            .preview(turn, &hashes)
            .map_err(not_resolved)?;
        let held = branch.map(|slot| slot.look(|branch| branch.instructions));
        let lead = match held {
            Some(held) => shared.lead_of_append(turn, &hashes, &held),
            None => Lead {
                instructions: turn.instructions.as_deref(),
                updated: false,
                transcript: transcript::bounded(&turn.history, shared.transcript),
            },
        };
        let prompt = transcript::prompt(&turn.history, &turn.prompt);
        let posts = (decision != Decision::Local).then(|| transcript::posted(&lead, &prompt));
        Ok(Plan {
            conversation: conversation.to_string(),
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
        self.0.stopped.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn subscribe(&self, run: Arc<Run>, deadline: Duration, attached: bool) -> Subscription {
        Subscription {
            progress: run.watch(),
            run,
            sent: Arc::from(""),
            accepted: false,
            attached,
            deadline: Instant::now() + deadline,
            leaving: Leaving::Left,
            left: Leaving::Left,
            metrics: self.0.metrics.clone(),
            _waiting: self.0.metrics.waiting(),
        }
    }
}

impl Shared {
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// A place among the runs; a side call that is answered here needs none.
    fn share(&self, turn: &Turn, hashes: &Hashes) -> Result<Option<Share>, Error> {
        let messages = turn.history.iter().chain(&turn.prompt);
        let bytes: usize = messages.map(|message| message.text.len()).sum();
        let full = match self.active.take(turn.caller.tenant, bytes as u64) {
            Ok(share) => return Ok(Some(share)),
            Err(full) => full,
        };
        match self.resolver.preview(turn, hashes) {
            Ok((Decision::Local, ..)) => Ok(None),
            _ => {
                self.metrics.shed(match full {
                    Full::Tenant => Shed::Key,
                    Full::All => Shed::All,
                });
                Err(full.into())
            }
        }
    }

    /// What makes a request the same request.
    fn request_key(&self, turn: &Turn) -> RequestKey {
        let names = &turn.names;
        let handle = names.handle.as_ref().map_or("", |handle| &handle.0);
        let fields = [
            turn.caller.tenant.0.as_slice(),
            turn.repeat.body.as_slice(),
            handle.as_bytes(),
            names.narrow.as_deref().unwrap_or_default().as_bytes(),
        ];
        let users = names.users.iter().map(String::as_bytes);
        self.salt.hash("request", fields.into_iter().chain(users))
    }

    fn idempotency_key(&self, turn: &Turn) -> Option<RequestKey> {
        let key = turn.repeat.idempotency_key.as_ref()?;
        let fields = [turn.caller.tenant.0.as_slice(), key.as_bytes()];
        Some(self.salt.hash("idempotency key", fields))
    }

    /// What leads a prompt on a thread that knows instructions with the hash `held`. Where a
    /// request is new text alone, saying no instructions leaves those that are.
    pub fn lead_of_append<'a>(&self, turn: &'a Turn, hashes: &Hashes, held: &[u8; 32]) -> Lead<'a> {
        let silent = turn.history.is_empty() && turn.instructions.is_none();
        let updated = !silent && hashes.instructions != *held;
        Lead {
            instructions: turn.instructions.as_deref().filter(|_| updated),
            updated,
            transcript: None,
        }
    }
}

impl Subscription {
    /// As known by now: a later read may differ (`appended` becomes `replayed`).
    pub fn place(&self) -> Place {
        let place = self.progress.borrow().place.clone();
        Place {
            decision: if self.attached {
                Decision::Attached
            } else {
                place.decision
            },
            ..place
        }
    }

    /// Polls of the upstream so far, for the log.
    pub fn polls(&self) -> u32 {
        self.progress.borrow().polls
    }

    /// The next event. After `Completed` or `Failed` there is none: do not call again.
    /// The texts before `Completed`, joined, are the answer's. Safe to drop at any time.
    pub async fn next(&mut self) -> RunEvent {
        loop {
            let progress = self.progress.borrow_and_update().clone();
            if let Some(event) = self.event(progress) {
                return event;
            }
            if let Err(error) = self.changed().await {
                return RunEvent::Failed(error);
            }
        }
    }

    /// Waits for the end. Safe to drop at any time.
    pub async fn answer(&mut self) -> Result<Arc<Answer>, Error> {
        loop {
            let ended = self.progress.borrow_and_update().ended.clone();
            if let Some(ended) = ended {
                self.leaving = Leaving::Written;
                return ended;
            }
            self.changed().await?;
        }
    }

    /// The last byte was accepted by the caller's socket: this answer is not owed any more.
    pub fn delivered(mut self) {
        self.left = self.leaving;
    }

    /// Waits for a change in the run, at most until the caller's deadline.
    async fn changed(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            changed = self.progress.changed() => changed.map_err(|_| Error::Internal),
            () = sleep_until(self.deadline) => Err(Error::Timeout),
        }
    }

    fn event(&mut self, progress: Progress) -> Option<RunEvent> {
        // An end without an answer comes first: a stream that has not begun need not begin.
        if let Some(Err(error)) = &progress.ended {
            self.leaving = Leaving::Written;
            return Some(RunEvent::Failed(error.clone()));
        }
        let ended = progress.ended.and_then(Result::ok);
        if !self.accepted && (progress.accepted || ended.is_some()) {
            self.accepted = true;
            return Some(RunEvent::Accepted);
        }
        let text = match &ended {
            Some(answer) => Arc::from(answer.text.as_str()),
            None => progress.text,
        };
        match text.strip_prefix(&*self.sent) {
            Some("") => {}
            Some(growth) => {
                let growth = growth.to_owned();
                self.sent = text;
                return Some(RunEvent::Text(growth));
            }
            // An unfinished text may be shown shorter for a while; what was sent must come back.
            None if ended.is_none() => return None,
            None => {
                return Some(RunEvent::Failed(Error::Upstream {
                    what: "the text changed after it was sent".to_owned(),
                    posted: true,
                }));
            }
        }
        let answer = ended?;
        self.leaving = Leaving::Written;
        Some(RunEvent::Completed(answer))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.run.leave(self.left);
        if self.attached
            && let Some(ended) = &self.progress.borrow().ended
        {
            self.metrics.turn_ended(Decision::Attached, outcome(ended));
        }
    }
}

fn not_resolved(unresolved: Unresolved) -> NotStarted {
    let place = match &unresolved {
        Unresolved::NoConversation(_) => None,
        Unresolved::TooManyWaiting(handle) => Some(Place {
            conversation: handle.to_string(),
            decision: Decision::Appended,
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
            Finish::Stop => Outcome::Completed,
            Finish::Length => Outcome::Incomplete,
        },
        Err(error) => match error {
            Error::Failed(_) | Error::Upstream { .. } | Error::Internal => Outcome::Failed,
            Error::Cancelled(_) => Outcome::Cancelled,
            Error::Expired | Error::Timeout => Outcome::Expired,
            Error::OutcomeUnknown => Outcome::Unknown,
            Error::Unreachable | Error::Failing(_) | Error::ShuttingDown => Outcome::Unreachable,
            Error::NoConversation(_)
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
