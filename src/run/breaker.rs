//! Whether the upstream fails, and for whom: while it does, nothing new is posted, and one try per
//! interval shows when it is back.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::ids::Tenant;
use crate::metrics::Metrics;
use crate::upstream::ThreadId;

/// Failures in a row, without one call that went well.
const FAILURES: u32 = 5;

/// From one try of a failing upstream to the next.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Upstream keys that something is remembered of.
const KEYS: usize = 1024;

/// Two circuits lie on the way of a POST: the upstream's, and that of the key it is for. What fails
/// for one key alone (its plan, its data source) must not stop the others, and what fails on one
/// thread alone must not stop its key: a circuit opens for failures that come from several.
#[derive(Debug)]
pub struct Breaker {
    min_gap: Duration,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    whole: Circuit,
    keys: HashMap<Tenant, Key, RandomState>,
}

#[derive(Debug)]
struct Key {
    circuit: Circuit,
    idle: Option<Idle>,
    /// When something was last remembered of it.
    told: Instant,
}

/// A thread of the key's that no run is under way on, so that it may be read to try the upstream.
#[derive(Debug)]
struct Idle {
    thread: ThreadId,
    read: Instant,
    tried: bool,
}

#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    origin: Origin,
    /// It is open, and the next try is due then.
    next: Option<Instant>,
}

/// Where the failures in a row came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    Nowhere,
    One(u64),
    Several,
}

/// What a failed call says.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'a> {
    /// No connection: it cannot be the key's fault, nor a thread's.
    Connect,
    /// Whatever else, on this thread, or on a new one.
    Call(Option<&'a ThreadId>),
}

/// Whether a POST may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    Go,
    /// After a read of this thread that goes well.
    Try(ThreadId),
    /// Not before so long.
    Closed(Duration),
}

impl Breaker {
    pub fn new(min_gap: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            min_gap,
            metrics,
            state: Mutex::default(),
        }
    }

    /// Asked before each POST. Where a try is due, whoever asks first makes it: by a read where its
    /// key has a thread for that, else with its own turn.
    pub fn pass(&self, key: &Tenant) -> Pass {
        let now = Instant::now();
        let mut state = self.state();
        let State { whole, keys } = &mut *state;
        let mut own = keys.get_mut(key);
        let nexts = [whole.next, own.as_ref().and_then(|own| own.circuit.next)];
        let Some(mut due) = nexts.into_iter().flatten().max() else {
            return Pass::Go;
        };
        let idle = own.as_mut().and_then(|own| own.idle.as_mut());
        if let Some(idle) = &idle {
            due = due.max(idle.read + self.min_gap);
        }
        if due > now {
            return Pass::Closed(due - now);
        }
        let thread = idle.map(|idle| {
            idle.read = now;
            idle.tried = true;
            idle.thread.clone()
        });
        let circuits = [Some(whole), own.map(|own| &mut own.circuit)];
        for circuit in circuits.into_iter().flatten() {
            circuit.next = circuit.next.map(|_| now + INTERVAL);
        }
        thread.map_or(Pass::Go, Pass::Try)
    }

    /// How long a POST with this key would be kept back; no try is made of it.
    pub fn closed_for(&self, key: &Tenant) -> Option<Duration> {
        let state = self.state();
        let own = state.keys.get(key).and_then(|own| own.circuit.next);
        let next = state.whole.next.into_iter().chain(own).max()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// The upstream answered as it should.
    pub fn succeeded(&self, key: &Tenant) {
        let mut state = self.state();
        let State { whole, keys } = &mut *state;
        let whole_was_open = whole.close();
        let own_was_open = keys.get_mut(key).is_some_and(|own| own.circuit.close());
        if keys.get(key).is_some_and(|own| own.idle.is_none()) {
            keys.remove(key);
        }
        drop(state);
        if whole_was_open {
            self.metrics.upstream_failing(false);
            info!("the upstream answers again: messages are posted");
        }
        if own_was_open {
            self.metrics.key_failing(false);
            info!("the upstream answers one key again");
        }
    }

    pub fn failed(&self, key: &Tenant, failure: Failure<'_>) {
        let now = Instant::now();
        let mut state = self.state();
        let (of_whole, of_key) = match failure {
            Failure::Connect => (Origin::Several, Origin::Several),
            Failure::Call(None) => (Origin::One(hash(key)), Origin::Several),
            Failure::Call(Some(thread)) => (Origin::One(hash(key)), Origin::One(hash(thread))),
        };
        let whole_opens = state.whole.fail(of_whole, now);
        let forgotten = state.make_room(key);
        let own_opens = state.told(key, now).circuit.fail(of_key, now);
        drop(state);
        self.forget(forgotten);
        if whole_opens {
            self.metrics.upstream_failing(true);
            warn!("the upstream fails: nothing new is posted until it answers");
        }
        if own_opens {
            self.metrics.key_failing(true);
            warn!("the upstream fails for one key: nothing new is posted with it until it answers");
        }
    }

    /// A run on this thread has ended.
    pub fn leave(&self, key: &Tenant, thread: &ThreadId) {
        let now = Instant::now();
        let mut state = self.state();
        let forgotten = state.make_room(key);
        state.told(key, now).idle = Some(Idle {
            thread: thread.clone(),
            read: now,
            tried: false,
        });
        drop(state);
        self.forget(forgotten);
    }

    /// Somebody else reads or posts on this thread: it is not tried any more. Returns when it may
    /// be read, where it was read for a try.
    pub fn enter(&self, key: &Tenant, thread: &ThreadId) -> Option<Instant> {
        let mut state = self.state();
        let own = state.keys.get_mut(key)?;
        let idle = own.idle.take_if(|idle| idle.thread == *thread)?;
        idle.tried.then(|| idle.read + self.min_gap)
    }

    /// Whether it fails for everyone, or for some key.
    pub fn is_open(&self) -> (bool, bool) {
        let state = self.state();
        let for_some = state.keys.values().any(|own| own.circuit.next.is_some());
        (state.whole.next.is_some(), for_some)
    }

    /// Where that key's circuit was open, nobody is kept back by it any more.
    fn forget(&self, key: Option<Key>) {
        if key.is_some_and(|key| key.circuit.next.is_some()) {
            self.metrics.key_failing(false);
            info!("a key that the upstream failed for is forgotten");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where there is no room for this key, the one that nothing was told of for longest makes it.
    fn make_room(&mut self, key: &Tenant) -> Option<Key> {
        if self.keys.len() < KEYS || self.keys.contains_key(key) {
            return None;
        }
        let oldest = self.keys.iter().min_by_key(|(_, own)| own.told);
        let oldest = *oldest?.0;
        self.keys.remove(&oldest)
    }

    fn told(&mut self, key: &Tenant, now: Instant) -> &mut Key {
        let own = self.keys.entry(*key).or_insert_with(|| Key {
            circuit: Circuit::default(),
            idle: None,
            told: now,
        });
        own.told = now;
        own
    }
}

impl Circuit {
    /// Returns whether it opened.
    fn fail(&mut self, from: Origin, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.origin = match self.origin {
            Origin::Nowhere => from,
            same if same == from => same,
            _ => Origin::Several,
        };
        let opens =
            self.next.is_none() && self.failures >= FAILURES && self.origin == Origin::Several;
        if opens {
            self.next = Some(now + INTERVAL);
        }
        opens
    }

    /// Returns whether it was open.
    fn close(&mut self) -> bool {
        std::mem::take(self).next.is_some()
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
