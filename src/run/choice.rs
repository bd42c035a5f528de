//! The other answers to one request: each is a run of its own, on a thread of its own that begins with
//! what the conversation held before the request.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use super::apart::Hashed;
use super::audience::Run;
use super::base::Ground;
use super::carry::Carry;
use super::live::{NotStarted, Runner, Shared, outcome};
use super::progress::Progress;
use super::share::weight;
use super::subscription::{Seat, Subscription};
use super::{Error, Place};
use crate::conversation::resolve::Hashes;
use crate::conversation::transcript::bounded;
use crate::conversation::{Decision, Turn};
use crate::ids::{Digest, Fingerprint, Short};
use crate::planted::{Bug, is_planted};
use crate::store::BranchId;

impl Runner {
    /// As [`Runner::start`], for all answers that a request wants, in the order of their choices. The
    /// first is the conversation's own, and begins at once or not at all; the others wait for their
    /// places.
    pub fn start_all(
        &self,
        first: impl Into<Hashed>,
        others: Vec<Turn>,
    ) -> Result<Vec<Subscription>, NotStarted> {
        let shared = &self.0;
        for turn in &others {
            let ask = shared.ask(turn);
            let known = shared
                .ledger
                .peek(&ask.request, ask.keyed.as_ref(), &turn.repeat);
            known.map_err(|_| NotStarted::without_place(Error::KeyReused))?;
        }
        let (first, subscription) = self.begin(first.into())?;
        let earlier = Arc::new(Earlier::new(first));
        let mut subscriptions = vec![subscription];
        for turn in others {
            subscriptions.push(self.start_other(turn, earlier.clone())?);
        }
        Ok(subscriptions)
    }

    fn start_other(
        &self,
        mut turn: Turn,
        earlier: Arc<Earlier>,
    ) -> Result<Subscription, NotStarted> {
        let shared = &self.0;
        let place = earlier.first.place();
        if place.decision == Decision::Local {
            return self.start(turn);
        }
        let ask = shared.ask(&turn);
        // It belongs to the conversation of the first, and never takes its name.
        let named = || place.conversation.clone();
        turn.names.handle.get_or_insert_with(named);
        let keyed = ask.keyed.as_ref();
        let turnstile = shared.ledger.turnstile(keyed);
        let attached = shared
            .ledger
            .attach(&ask.request, keyed, &turn.repeat)
            .map_err(|_| NotStarted::without_place(Error::KeyReused))?;
        let ground = Ground {
            earlier: turn.history.is_empty().then_some(earlier),
            ..Ground::default()
        };
        if let Some(run) = attached.filter(|_| !is_planted(Bug::NoRepeats)) {
            let hashes = Hashes::of(&shared.salt, &turn);
            return Ok(self.attach(run, turn, hashes, ground));
        }
        let place = Place {
            decision: Decision::of_choice(&turn),
            is_replay: false,
            ..place
        };
        let run = Run::new(ask, place, None, shared.store.clone());
        shared.ledger.add(&run);
        let deadline = turn.deadline;
        let waiting = Waiting {
            shared: shared.clone(),
            run: run.clone(),
            limit: Instant::now() + shared.settings.limit,
        };
        shared.set_off(waiting.out(turn, ground), None);
        drop(turnstile);
        Ok(self.subscribe(run, deadline, Seat::Own))
    }
}

/// A run that waits for its place.
#[derive(Debug)]
struct Waiting {
    shared: Arc<Shared>,
    run: Arc<Run>,
    /// When the run is given up.
    limit: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.abandon(&self.run);
    }
}

impl Waiting {
    /// To the end, whoever listens.
    async fn out(self, turn: Turn, ground: Ground) {
        let place = async {
            if let Some(earlier) = &ground.earlier {
                earlier.known().await?;
            }
            let shares = &self.shared.active;
            Ok(shares.wait(turn.caller.tenant, weight(&turn)).await)
        };
        let share = match timeout_at(self.limit, place).await {
            Ok(Ok(share)) => share,
            Ok(Err(error)) => return self.end(error),
            Err(_) => return self.end(Error::TooManyRuns),
        };
        let hashes = Hashes::of(&self.shared.salt, &turn);
        let resolved = match self.shared.resolver.resolve(&turn, &hashes) {
            Ok(resolved) => resolved,
            Err(unresolved) => return self.end(unresolved.into()),
        };
        self.run.report(|progress| {
            progress
                .place
                .conversation
                .clone_from(&resolved.conversation);
        });
        let mut carry = Carry {
            shared: self.shared.clone(),
            run: self.run.clone(),
            turn,
            hashes,
            conversation: resolved.conversation,
            ground,
            begins: Some(resolved.continuation),
            limit: self.limit,
            doubt: false,
        };
        Box::pin(carry.out()).await;
        drop(share);
    }

    /// Nothing was posted.
    fn end(&self, error: Error) {
        let end = Err(error);
        self.run.settle(&end, Digest::default());
        let decision = self.run.place().decision;
        self.shared.metrics.turn_ended(decision, outcome(&end));
        self.run.end(end);
    }
}

/// What a conversation held before a request of which several answers are wanted, where the request
/// does not say it. Read once for all of them.
pub struct Earlier {
    /// The run of the first answer.
    first: Arc<Run>,
    known: OnceCell<()>,
    before: OnceCell<Before>,
}

/// A conversation up to a point.
#[derive(Clone, Default)]
pub struct Before {
    pub transcript: Option<String>,
    /// What it is known by there; `None` where it begins.
    pub point: Option<(Fingerprint, VecDeque<Short>)>,
}

impl fmt::Debug for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Earlier").finish_non_exhaustive()
    }
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Before").finish_non_exhaustive()
    }
}

impl Earlier {
    fn new(first: Arc<Run>) -> Self {
        Self {
            first,
            known: OnceCell::new(),
            before: OnceCell::new(),
        }
    }

    /// Whether the first answer begins a conversation.
    fn is_nothing(&self) -> bool {
        let decision = self.first.place().decision;
        matches!(decision, Decision::Created | Decision::Forked)
    }

    /// Waits until it is known what the first answer follows on. The others go on in their order.
    async fn known(&self) -> Result<(), Error> {
        if self.is_nothing() {
            return Ok(());
        }
        let known = self.known.get_or_try_init(|| self.posted());
        known.await.copied()
    }

    async fn posted(&self) -> Result<(), Error> {
        let progress = &self.first.progress;
        progress.until(Progress::is_accepted).await;
        progress.look(|progress| match &progress.ended {
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(_)) | None => Ok(()),
        })
    }

    /// What the other answers follow on.
    pub async fn before(&self, carry: &Carry) -> Result<Before, Error> {
        let before = self.before.get_or_try_init(|| self.read(carry));
        before.await.cloned()
    }

    async fn read(&self, carry: &Carry) -> Result<Before, Error> {
        self.known().await?;
        if self.is_nothing() {
            return Ok(Before::default());
        }
        let record = self.first.record().ok_or_else(lost)?;
        let slot = carry.shared.store.branch(BranchId(record.branch));
        let mut branch = slot.ok_or_else(lost)?.branch();
        let window = if branch.tip == record.before {
            branch.window.clone()
        } else {
            VecDeque::new()
        };
        branch.seen = (!record.seen.keys.is_empty()).then_some(record.seen);
        Ok(Before {
            transcript: bounded(
                &carry.messages_of_branch(&branch).await?,
                carry.shared.transcript,
            ),
            point: Some((record.before, window)),
        })
    }
}

/// What the first answer followed on cannot be told any more. That one is posted, and the same request
/// again would not end better.
fn lost() -> Error {
    Error::Upstream {
        what: "what the conversation held before this request is not known any more".to_owned(),
        posted: true,
    }
}
