//! What an earlier process has left: taken up at the start, and carried on once its key is at hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::audience::Run;
use super::ledger::KEYED_FOR;
use super::live::{Runner, Shared};
use super::resume::Resume;
use crate::config::OnUnknown;
use crate::conversation::Caller;
use crate::conversation::queue::Held;
use crate::ids::Tenant;
use crate::planted::{Bug, is_planted};
use crate::secret::Secret;
use crate::store::record::{Phase, Turn, TurnId};
use crate::store::{BranchId, LeaseLock};

/// A run that is past its limit by now may have ended before: it is followed at least this long.
const LEAST: Duration = Duration::from_secs(60);

/// Runs that an earlier process has left under way, until their tenant's key is at hand.
#[derive(Debug, Default)]
pub struct Left {
    runs: Mutex<BTreeMap<Tenant, Vec<Waiting>>>,
    /// Of all tenants, so that a request need not look where there are none.
    in_all: AtomicUsize,
}

/// A run, and the branch of its thread where that is remembered.
type Waiting = (Arc<Run>, Option<Held>);

impl Left {
    fn tenants(&self) -> Vec<Tenant> {
        self.runs().keys().copied().collect()
    }

    fn add(&self, run: Arc<Run>, held: Option<Held>) {
        self.in_all.fetch_add(1, Ordering::Relaxed);
        let mut runs = self.runs();
        runs.entry(run.tenant).or_default().push((run, held));
    }

    fn take(&self, tenant: &Tenant) -> Vec<Waiting> {
        if self.in_all.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let taken = self.runs().remove(tenant).unwrap_or_default();
        self.in_all.fetch_sub(taken.len(), Ordering::Relaxed);
        taken
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<Tenant, Vec<Waiting>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Takes up the runs of every tenant that an earlier process has left under way.
    pub fn resume_all(&self, key: &Secret) {
        for tenant in self.0.left.tenants() {
            self.resume(&Caller {
                tenant,
                account: self.0.salt.tenant_of_key(key.expose()),
                key: key.clone(),
            });
        }
    }

    /// Takes up the runs that an earlier process has left under way for whoever presents this key.
    pub fn resume(&self, caller: &Caller) {
        let shared = &self.0;
        if is_planted(Bug::NoResume) {
            return;
        }
        for (run, held) in shared.left.take(&caller.tenant) {
            let Some(turn) = run.record() else {
                continue;
            };
            let spent = shared.store.now().since(turn.times.began);
            let limit = shared.settings.limit.saturating_sub(spent);
            let resume = Resume {
                shared: shared.clone(),
                limit: Instant::now() + limit.max(LEAST),
                run,
                caller: caller.clone(),
                held,
                turn,
            };
            let share = shared.active.take_anyway(caller.tenant);
            shared.set_off(resume.out(), Some(share));
        }
    }
}

impl Shared {
    /// Takes up one turn that an earlier process has left.
    pub fn restore(&self, id: TurnId, turn: Turn) {
        self.store.passed_turn(id);
        let age = self.store.now().since(turn.times.began);
        if turn.phase.is_open() && age > self.longest_left() {
            self.close(turn.branch);
            self.store.forget_turn(id);
            return;
        }
        let branch = self.store.branch(BranchId(turn.branch));
        let open = turn.phase.is_open();
        let run = self.restored(id, turn);
        self.ledger.restore(&run);
        if !open || run.has_ended() {
            return;
        }
        // Until the run has ended nobody else may post on its thread, or forget it.
        let held = branch.and_then(|slot| {
            let lease = if is_planted(Bug::LostLease) {
                LeaseLock::default().try_lock_owned().ok()?
            } else {
                slot.try_lease()?
            };
            Some(Held { slot, lease })
        });
        self.left.add(run, held);
    }

    /// How long a run that nobody could follow is anybody's concern.
    fn longest_left(&self) -> Duration {
        (self.settings.limit + self.settings.keep_answers).max(KEYED_FOR)
    }

    fn restored(&self, id: TurnId, mut turn: Turn) -> Arc<Run> {
        if turn.phase == Phase::Intended && turn.thread.is_none() {
            // Which thread the message began, if any, cannot be known.
            turn.phase = Phase::Unknown;
        }
        if !turn.phase.is_open() {
            let now = self.store.now();
            turn.times.ended.get_or_insert(now);
        }
        let replays = self.settings.on_unknown == OnUnknown::Replay;
        let untold = turn.times.told.is_none() && turn.times.written.is_none();
        let dozes = turn.phase == Phase::Unknown && turn.thread.is_some() && untold && replays;
        let is_accepted = turn.phase == Phase::Accepted;
        let run = Run::restored(id, turn, self.store.clone());
        run.report(|progress| progress.accepted = is_accepted);
        if dozes {
            run.doze();
        }
        run
    }

    /// Lets a turn rest as it is remembered, until its caller asks again.
    pub fn put_to_rest(&self, run: &Arc<Run>) {
        if let Some(turn) = run.release() {
            self.ledger.replace(run, &self.restored(run.id, turn));
        }
    }
}
