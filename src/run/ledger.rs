//! Who asked what, and whether the answer has reached them: what a repeated request attaches to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::yield_now;

use super::Error;
use super::ask::RequestKey;
use super::audience::Run;
use super::callers::{Callers, May};
use super::responses::Responses;
use crate::clock::Moment;
use crate::conversation::Repeat;
use crate::ids::ByOurs;
use crate::store::Store;

/// How long an `Idempotency-Key` is kept.
pub const KEYED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A retry that says so may still attach to an answer that was written out so long ago: clients wait for
/// seconds. Half a minute after thousands were answered the system has back what was kept for this.
const RETRIED_WITHIN: Duration = Duration::from_secs(25);

/// At most so many of the oldest runs are looked at for each that is added.
const SWEPT_AT_ONCE: usize = 2;

/// A run is looked at so much later than it can be spent at the earliest: most were answered by then, and the look
/// is not in vain.
const MOST_ARE_ANSWERED: Duration = Duration::from_secs(1);

/// How many are looked at in one go where time has passed, and how many in all.
const SETTLED_AT_ONCE: usize = 64;
const SETTLED: usize = 4096;

/// How many more are looked at, where there are many, in the search for those whose answers were delivered.
const PASSED_OVER: usize = 64;

/// How many of the newest equal runs a request is compared with: more of them is nobody's retry.
const EQUAL: usize = 64;

/// The runs that a repeated request may attach to.
#[derive(Debug)]
pub struct Ledger {
    store: Arc<Store>,
    runs: ByOurs<RequestKey, Vec<Arc<Run>>>,
    keyed: ByOurs<RequestKey, Arc<Run>>,
    order: Mutex<Order>,
    /// Taken while a request with an `Idempotency-Key` looks for its run and begins one.
    one_at_a_time: Mutex<()>,
    /// Those that can be asked for by an id, for longer than any request attaches to them.
    pub responses: Responses,
    keep: Duration,
    max: usize,
}

/// Each with the moment from which a sweep may look at it, the first of these first.
type Order = VecDeque<(Moment, Arc<Run>)>;

/// A request with this `Idempotency-Key` was another request.
#[derive(Debug)]
pub struct KeyReused;

/// While an error is repeated: since it was last told, and in all.
fn standing(error: &Error) -> (Duration, Duration) {
    match error {
        Error::OutcomeUnknown => (Duration::from_secs(65), Duration::from_secs(180)),
        _ => (Duration::from_secs(10), Duration::from_secs(60)),
    }
}

fn longest_told() -> Duration {
    standing(&Error::OutcomeUnknown).1
}

impl Ledger {
    pub fn new(store: Arc<Store>, keep: Duration, max: usize) -> Self {
        let bounds = store.bounds();
        Self {
            responses: Responses::new(bounds.max, bounds.max_age),
            store,
            runs: ByOurs::default(),
            keyed: ByOurs::default(),
            order: Mutex::new(VecDeque::new()),
            one_at_a_time: Mutex::new(()),
            keep,
            max,
        }
    }

    /// Held by a request with an `Idempotency-Key` until its run is added.
    pub fn turnstile(&self, keyed: Option<&RequestKey>) -> Option<MutexGuard<'_, ()>> {
        keyed.map(|_| {
            self.one_at_a_time
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// The run that this request is a repetition of, with a place taken at it.
    pub fn attach(
        &self,
        request: &RequestKey,
        keyed: Option<&RequestKey>,
        repeat: &Repeat,
    ) -> Result<Option<Arc<Run>>, KeyReused> {
        self.find(request, keyed, repeat, Run::attend)
    }

    /// The run that this request would attach to by now.
    pub fn peek(
        &self,
        request: &RequestKey,
        keyed: Option<&RequestKey>,
        repeat: &Repeat,
    ) -> Result<Option<Arc<Run>>, KeyReused> {
        self.find(request, keyed, repeat, Run::admits)
    }

    fn find(
        &self,
        request: &RequestKey,
        keyed: Option<&RequestKey>,
        repeat: &Repeat,
        take: impl Fn(&Run, May<'_>) -> bool,
    ) -> Result<Option<Arc<Run>>, KeyReused> {
        let stands = |error: Option<&Error>| error.is_none_or(Error::stands);
        if let Some(key) = keyed {
            let run = self.keyed.get(key).map(|run| run.clone());
            let kept = run.filter(|run| self.ago(run.callers().times.began) < KEYED_FOR);
            let Some(run) = kept else {
                return Ok(None);
            };
            if run.request != *request {
                return Err(KeyReused);
            }
            return Ok(take(&run, &|_, error| stands(error)).then_some(run));
        }
        let runs = self.runs.get(request);
        let newest: Vec<Arc<Run>> = runs.map_or_else(Vec::new, |runs| {
            runs.iter().rev().take(EQUAL).cloned().collect()
        });
        let owed = |callers: &Callers, error: Option<&Error>| {
            let since = callers.times.left.max(callers.times.ended);
            let lately = since.is_some_and(|since| self.ago(since) < self.keep);
            callers.is_owed() && stands(error) && (lately || callers.times.ended.is_none())
        };
        let repeats = |callers: &Callers, error: Option<&Error>| {
            error.is_some_and(|error| error.stands() && self.repeats(callers, error))
        };
        let lately = |callers: &Callers, error: Option<&Error>| {
            let recent = |at: Option<Moment>| at.is_some_and(|at| self.ago(at) < RETRIED_WITHIN);
            let (left, written) = (callers.times.left, callers.times.written);
            callers.live == 0 && stands(error) && (recent(left) || recent(written))
        };
        let first = |may: May<'_>| newest.iter().find(|run| take(run, may)).cloned();
        let found = first(&|callers, error| owed(callers, error) || repeats(callers, error));
        Ok(match found {
            None if repeat.marked => first(&lately),
            found => found,
        })
    }

    pub fn add(&self, run: &Arc<Run>) {
        self.enter(run);
        for run in self.swept() {
            self.forget(&run);
        }
        for run in self.responses.swept(&self.store) {
            self.forget_response(&run);
        }
    }

    /// Forgets of the oldest what nothing will be asked of any more, and lets others go on meanwhile.
    pub async fn settle(&self) {
        let mut at = 0;
        while at < self.order().len().min(SETTLED) {
            let spent = self.spent(at);
            at += SETTLED_AT_ONCE - spent.len();
            for run in spent {
                self.forget(&run);
            }
            yield_now().await;
        }
    }

    /// Takes what is spent out of the order, from there on. The others stay where they are.
    fn spent(&self, from: usize) -> Vec<Arc<Run>> {
        let mut order = self.order();
        let looked_at = order.iter().enumerate().skip(from).take(SETTLED_AT_ONCE);
        let spent = looked_at.filter(|(_, (_, run))| self.is_spent(run));
        let spent: Vec<usize> = spent.map(|(at, _)| at).collect();
        let taken = spent.into_iter().rev();
        let taken = taken.filter_map(|at| order.remove(at));
        taken.map(|(_, run)| run).collect()
    }

    /// Takes up a run that an earlier process has left, unless nothing will be asked of it any more.
    pub fn restore(&self, run: &Arc<Run>) {
        self.enter(run);
        if self.is_spent(run) {
            self.order().pop_back();
            self.forget(run);
        }
    }

    /// Puts a run in the place of one that has ended, under the same record.
    pub fn replace(&self, ended: &Arc<Run>, run: &Arc<Run>) {
        self.responses.replace(ended, run);
        let listed = self.runs.get(&ended.request);
        let is_listed =
            listed.is_some_and(|runs| runs.iter().any(|other| Arc::ptr_eq(other, ended)));
        if is_listed {
            // In this order: a request that looks in between finds one of them.
            self.enter(run);
        } else {
            self.responses.rest(run);
        }
        self.order().retain(|(_, other)| !Arc::ptr_eq(other, ended));
        self.strike(ended);
    }

    /// Notes that the answer of a response is in memory again, until it is swept.
    pub fn awaken(&self, run: &Arc<Run>) {
        if self.responses.awaken(run) {
            self.put_in_order(run);
        }
    }

    /// Nobody can ask for it by its id any more. Its request may still be repeated.
    pub fn forget_response(&self, run: &Arc<Run>) {
        let rested = self.responses.rests(run);
        self.responses.remove(run);
        run.unkeep();
        if rested {
            run.forget();
        }
    }

    fn enter(&self, run: &Arc<Run>) {
        self.responses.enter(run);
        let equal = self.runs.entry(run.request);
        // Nearly always it is the only one.
        equal
            .or_insert_with(|| Vec::with_capacity(1))
            .push(run.clone());
        if let Some(key) = run.keyed {
            self.keyed.insert(key, run.clone());
        }
        self.put_in_order(run);
    }

    fn put_in_order(&self, run: &Arc<Run>) {
        let mut order = self.order();
        order.push_back((self.next_look(self.store.now()), run.clone()));
    }

    /// When a sweep is to look at a run that was begun now, or looked at in vain.
    fn next_look(&self, now: Moment) -> Moment {
        now.later(self.keep.min(RETRIED_WITHIN) + MOST_ARE_ANSWERED)
    }

    /// Takes out of the order what is to be forgotten.
    fn swept(&self) -> Vec<Arc<Run>> {
        let mut order = self.order();
        let now = self.store.now();
        let mut swept = Vec::new();
        for _ in 0..SWEPT_AT_ONCE {
            let Some((_, oldest)) = order.pop_front_if(|(from, _)| *from <= now) else {
                break;
            };
            if self.is_spent(&oldest) {
                swept.push(oldest);
            } else {
                order.push_back((self.next_look(now), oldest));
            }
        }
        swept.extend(self.excess(&mut order, now));
        swept
    }

    /// Takes out those whose answers were delivered, of the oldest; where there are too many, whatever has ended of
    /// them. Those that are passed over go behind all others: they would be looked at each time, and be the first to
    /// be taken.
    fn excess(&self, order: &mut Order, now: Moment) -> Vec<Arc<Run>> {
        // Some way ahead, so that there is something to choose from.
        let many = self.max - self.max / 8;
        let (mut taken, mut passed) = (Vec::new(), 0);
        for _ in 0..PASSED_OVER.min(order.len()) {
            if order.len() <= many {
                break;
            }
            let Some((_, run)) = order.pop_front() else {
                break;
            };
            let is_done = run.is_delivered() && run.keyed.is_none();
            if is_done || self.is_spent(&run) {
                taken.push(run);
            } else {
                order.push_back((self.next_look(now), run));
                passed += 1;
            }
        }
        let from = order.len().saturating_sub(passed);
        while order.len() > self.max {
            let last = |may: fn(&Run) -> bool| {
                let mut last = order.iter().skip(from);
                last.position(|(_, run)| may(run))
            };
            let Some(at) = last(Run::is_delivered).or_else(|| last(Run::is_idle)) else {
                break;
            };
            taken.extend(order.remove(from + at).map(|(_, run)| run));
        }
        taken
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing will be asked of this run any more.
    fn is_spent(&self, run: &Run) -> bool {
        let callers = run.callers();
        let times = callers.times;
        let Some(ended) = times.ended else {
            return false;
        };
        let keyed = run.keyed.is_some() && self.ago(times.began) < KEYED_FOR;
        let left_lately = times
            .left
            .is_some_and(|left| self.ago(left) < RETRIED_WITHIN);
        if !callers.is_alone() || keyed || left_lately {
            return false;
        }
        if callers.kept.is_some() {
            // It is asked for by its id, most often soon.
            let last = times.written.max(times.left).max(Some(ended));
            return last.is_none_or(|last| self.ago(last) > self.keep);
        }
        match (times.written, times.told) {
            (Some(written), _) => self.ago(written) > RETRIED_WITHIN,
            (None, Some((first, _))) => self.ago(first) > longest_told(),
            (None, None) => self.ago(ended.max(times.left.unwrap_or(ended))) > self.keep,
        }
    }

    /// Whether an error is repeated to whoever asks the same again, though it was told already.
    fn repeats(&self, callers: &Callers, error: &Error) -> bool {
        let (within, in_all) = standing(error);
        callers
            .times
            .told
            .is_some_and(|(first, last)| self.ago(last) < within && self.ago(first) < in_all)
    }

    fn ago(&self, moment: Moment) -> Duration {
        self.store.now().since(moment)
    }

    /// Nothing attaches to it any more. A response is still found by its id, and its answer in its
    /// thread.
    fn forget(&self, run: &Arc<Run>) {
        self.strike(run);
        if run.is_remembered() && self.responses.rest(run) {
            if let Some(resting) = run.at_rest() {
                self.responses.replace(run, &resting);
            }
            return;
        }
        self.responses.remove(run);
        run.forget();
    }

    fn strike(&self, run: &Arc<Run>) {
        if let Some(mut runs) = self.runs.get_mut(&run.request) {
            runs.retain(|other| !Arc::ptr_eq(other, run));
        }
        self.runs.remove_if(&run.request, |_, runs| runs.is_empty());
        if let Some(key) = run.keyed {
            self.keyed
                .remove_if(&key, |_, other| Arc::ptr_eq(other, run));
        }
    }
}
