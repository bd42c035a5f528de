//! Responses: turns that can be asked for by an id, found again, cancelled, and forgotten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::Error;
use super::audience::{Rest, Run};
use super::live::{Runner, Shared};
use super::recall::{Recall, is_checked, unchecked};
use super::resume::interrupted;
use super::subscription::{Seat, Subscription};
use crate::conversation::{Base, Caller, Turn};
use crate::form;
use crate::ids::{Handle, ResponseId, Tenant};
use crate::planted::{Bug, is_planted};
use crate::store::record::{Kept, Phase, Point, TurnId};
use crate::store::{BranchId, Store};

/// How many of the oldest are looked at for each that is added.
const SWEPT_AT_ONCE: usize = 4;

/// A response as it is by now.
#[derive(Debug)]
pub struct Stored {
    pub kept: Kept,
    pub conversation: Handle,
    /// A place at its run, which is no request's: nothing is attached to it, and nothing is owed to it.
    pub subscription: Subscription,
    /// Whether its answer is being read from its thread: it will be there in a moment.
    pub is_recalled: bool,
}

/// Why a response was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCancelled {
    Unknown,
    /// Somebody waits for it, or did.
    NotBackground,
}

/// Where a request begins that follows on a response.
#[derive(Clone, Debug)]
pub struct Follows {
    pub id: ResponseId,
    pub branch: BranchId,
    pub point: Point,
}

/// The runs that can be asked for by id.
#[derive(Debug)]
pub struct Responses {
    by_id: DashMap<Key, Entry>,
    order: Mutex<Order>,
    max: usize,
    max_age: Duration,
}

type Key = (Tenant, ResponseId);

#[derive(Debug)]
struct Entry {
    run: Arc<Run>,
    /// No request attaches to it any more, and its answer is in its thread alone.
    rests: bool,
}

/// From the oldest on.
#[derive(Debug, Default)]
struct Order {
    keys: BTreeMap<TurnId, Key>,
    /// Where the next look begins.
    next: Option<TurnId>,
}

impl Responses {
    pub fn new(max: usize, max_age: Duration) -> Self {
        Self {
            by_id: DashMap::new(),
            order: Mutex::default(),
            max,
            max_age,
        }
    }

    /// Makes a run known by its id, if it has one.
    pub fn enter(&self, run: &Arc<Run>) {
        let Some(key) = key_of(run) else {
            return;
        };
        self.order().keys.insert(run.id, key);
        let rests = false;
        let run = run.clone();
        self.by_id.insert(key, Entry { run, rests });
    }

    pub fn find(&self, tenant: Tenant, id: ResponseId) -> Option<Arc<Run>> {
        let found = self.by_id.get(&key(tenant, id))?;
        Some(found.run.clone())
    }

    /// Puts a run in the place of another that has the same record. False where that is not known.
    pub fn replace(&self, other: &Arc<Run>, run: &Arc<Run>) -> bool {
        let mut entry = key_of(other).and_then(|key| self.by_id.get_mut(&key));
        let entry = entry
            .as_mut()
            .filter(|entry| Arc::ptr_eq(&entry.run, other));
        entry.map(|entry| entry.run = run.clone()).is_some()
    }

    /// Notes that no request attaches to this run any more. False where it is not known by an id.
    pub fn rest(&self, run: &Arc<Run>) -> bool {
        self.set_rest(run, true)
    }

    /// Notes that the answer of a run is in memory again. False where it was there all along.
    pub fn awaken(&self, run: &Arc<Run>) -> bool {
        self.rests(run) && self.set_rest(run, false)
    }

    pub fn rests(&self, run: &Arc<Run>) -> bool {
        let entry = key_of(run).and_then(|key| self.by_id.get(&key));
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.run, run) && entry.rests)
    }

    pub fn holds(&self, run: &Arc<Run>) -> bool {
        let entry = key_of(run).and_then(|key| self.by_id.get(&key));
        entry.is_some_and(|entry| Arc::ptr_eq(&entry.run, run))
    }

    /// Nobody finds it by its id any more.
    pub fn remove(&self, run: &Arc<Run>) {
        if let Some(key) = key_of(run) {
            self.order().keys.remove(&run.id);
            self.by_id
                .remove_if(&key, |_, entry| Arc::ptr_eq(&entry.run, run));
        }
    }

    /// What is too old, or too much, or whose conversation is forgotten, of what rests.
    pub fn swept(&self, store: &Store) -> Vec<Arc<Run>> {
        let mut order = self.order();
        let oldest: Vec<Key> = order.keys.values().take(SWEPT_AT_ONCE).copied().collect();
        let excess = order.keys.len().saturating_sub(self.max);
        let from = order.next.unwrap_or(TurnId(0));
        let looked: Vec<(TurnId, Key)> = order
            .keys
            .range(from..)
            .take(SWEPT_AT_ONCE)
            .map(|(id, key)| (*id, *key))
            .collect();
        order.next = looked.last().map(|(id, _)| TurnId(id.0 + 1));
        drop(order);
        let is_old = |run: &Run| store.now().since(run.callers().times.began) > self.max_age;
        let resting = |key: &Key| {
            let entry = self.by_id.get(key)?;
            entry.rests.then(|| entry.run.clone())
        };
        let too_much = oldest
            .iter()
            .enumerate()
            .filter_map(|(at, key)| Some((at < excess, resting(key)?)))
            .filter(|(excess, run)| *excess || is_old(run));
        let forgotten = looked
            .iter()
            .filter_map(|(_, key)| resting(key))
            .filter(|run| is_orphan(store, run));
        let mut swept: Vec<Arc<Run>> = too_much.map(|(_, run)| run).chain(forgotten).collect();
        swept.dedup_by_key(|run| run.id);
        swept
    }

    fn set_rest(&self, run: &Arc<Run>, rests: bool) -> bool {
        let mut entry = key_of(run).and_then(|key| self.by_id.get_mut(&key));
        let entry = entry.as_mut().filter(|entry| Arc::ptr_eq(&entry.run, run));
        entry.map(|entry| entry.rests = rests).is_some()
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing is remembered of the conversation that a run belongs to.
pub fn is_orphan(store: &Store, run: &Run) -> bool {
    run.record().is_none_or(|turn| {
        // One that never came to a thread has none that could be forgotten.
        let came_to_a_thread = turn.thread.is_some();
        came_to_a_thread && store.branch(BranchId(turn.branch)).is_none()
    })
}

fn key_of(run: &Run) -> Option<Key> {
    Some(key(run.tenant, run.response?))
}

fn key(tenant: Tenant, id: ResponseId) -> Key {
    if is_planted(Bug::SharedResponses) {
        return (Tenant([0; 32]), id);
    }
    (tenant, id)
}

/// What is remembered of a turn from the beginning on, if it is to be asked for by an id.
pub fn kept(turn: &Turn) -> Option<Kept> {
    let keep = turn.keep.as_ref()?;
    Some(Kept {
        id: keep.id,
        previous: match turn.base {
            Base::Response(id) => Some(id),
            Base::Nothing | Base::Conversation => None,
        },
        named: turn.base == Base::Conversation,
        background: keep.background,
        cancelled: false,
        created: keep.created,
        model: keep.model.clone(),
        form: turn
            .form
            .as_ref()
            .map_or(form::Kind::Text, |form| form.kind()),
        point: None,
    })
}

impl Runner {
    /// The response that this caller knows by this id. Foreign and unknown ids are alike.
    pub fn response(&self, caller: &Caller, id: ResponseId) -> Option<Stored> {
        let shared = &self.0;
        self.resume(caller);
        let run = shared.stored(caller.tenant, id)?;
        let kept = run.kept()?;
        let conversation = run.place().conversation;
        let (run, is_recalled) = if kept.cancelled {
            (run, false)
        } else {
            self.at_hand(caller, run)
        };
        run.read();
        let deadline = shared.settings.limit;
        let subscription = Subscription::new(run, deadline, Seat::Reader, shared.metrics.clone());
        Some(Stored {
            kept,
            conversation,
            subscription,
            is_recalled,
        })
    }

    /// Has nobody told of this answer any more. The upstream cannot be stopped: the run goes on to its
    /// end, and until then nothing else is posted on its thread.
    pub async fn cancel(&self, caller: &Caller, id: ResponseId) -> Result<(), NotCancelled> {
        let shared = &self.0;
        self.resume(caller);
        let run = shared.stored(caller.tenant, id);
        let run = run.ok_or(NotCancelled::Unknown)?;
        let kept = run.kept().ok_or(NotCancelled::Unknown)?;
        if !kept.background {
            return Err(NotCancelled::NotBackground);
        }
        run.withdraw();
        shared.flushed().await;
        Ok(())
    }

    /// Waits until what was changed so far outlives the process, as far as it can.
    pub async fn flushed(&self) {
        self.0.flushed().await;
    }

    /// Nobody can ask for it, or follow on it, from here on. False where it was not known.
    pub fn forget_response(&self, caller: &Caller, id: ResponseId) -> bool {
        let shared = &self.0;
        let Some(run) = shared.stored(caller.tenant, id) else {
            return false;
        };
        shared.ledger.forget_response(&run);
        true
    }

    /// The run itself, or one that tells how it stands with it; and whether its answer is being read.
    fn at_hand(&self, caller: &Caller, run: Arc<Run>) -> (Arc<Run>, bool) {
        let shared = &self.0;
        let turn = match run.wake_to_read(is_checked) {
            Rest::Awake => return (run, false),
            Rest::Answered(turn) => *turn,
            Rest::Interrupted(Phase::Answered(_)) => {
                return (shared.told(&run, unchecked()), false);
            }
            Rest::Interrupted(Phase::Lost) => return (shared.told(&run, interrupted()), false),
            Rest::Interrupted(_) => return (shared.told(&run, Error::OutcomeUnknown), false),
        };
        shared.ledger.awaken(&run);
        let recall = Recall {
            shared: shared.clone(),
            run: run.clone(),
            caller: caller.clone(),
            turn,
        };
        let share = shared.active.take_anyway(run.tenant);
        shared.set_off(recall.out(), Some(share));
        (run, true)
    }
}

impl Shared {
    /// What a request follows on; `None` where that is nothing, or a handle's conversation.
    /// Where it is not known, a request that carries a history begins anew with that.
    pub fn followed(&self, turn: &mut Turn) -> Result<Option<Follows>, Error> {
        let Base::Response(id) = turn.base else {
            return Ok(None);
        };
        let unknown = || Error::NoResponse(id.to_string());
        let Some(run) = self.stored(turn.caller.tenant, id) else {
            if turn.history.is_empty() {
                return Err(unknown());
            }
            turn.base = Base::Nothing;
            return Ok(None);
        };
        let kept = run.kept().ok_or_else(unknown)?;
        let unusable = |why| Error::NotFollowable(id.to_string(), why);
        if kept.cancelled {
            return Err(unusable("was cancelled"));
        }
        match (kept.point, run.record()) {
            (Some(point), Some(turn)) => Ok(Some(Follows {
                id,
                branch: BranchId(turn.branch),
                point,
            })),
            _ if run.has_ended() => Err(unusable("has no answer")),
            _ => Err(unusable("is not complete yet")),
        }
    }

    /// The run of a response, unless its conversation is forgotten.
    fn stored(&self, tenant: Tenant, id: ResponseId) -> Option<Arc<Run>> {
        let run = self.ledger.responses.find(tenant, id)?;
        // What was not posted yet has no conversation that could be forgotten.
        let may_be_orphan = run.is_remembered() || self.ledger.responses.rests(&run);
        if may_be_orphan && is_orphan(&self.store, &run) {
            self.ledger.forget_response(&run);
            return None;
        }
        Some(run)
    }

    /// A run that tells nothing but this.
    fn told(&self, run: &Run, error: Error) -> Arc<Run> {
        let told = run.likeness();
        told.end(Err(error));
        told
    }
}
