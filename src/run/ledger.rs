//! Who asked what, and whether the answer has reached them: what a repeated request attaches to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Answer, Error, Place};
use crate::conversation::Repeat;

/// How long an `Idempotency-Key` is kept.
const KEYED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A retry that says so may still attach to an answer that was written out so long ago.
const RETRIED_WITHIN: Duration = Duration::from_secs(30);

/// How many of the oldest runs are looked at for each that is added.
const SWEPT_AT_ONCE: usize = 4;

/// A keyed hash of everything that makes a request the same request.
pub type RequestKey = [u8; 32];

/// One run, as its callers see it.
#[derive(Debug)]
pub struct Run {
    request: RequestKey,
    keyed: Option<RequestKey>,
    progress: watch::Sender<Progress>,
    callers: Mutex<Callers>,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct Progress {
    pub place: Place,
    pub accepted: bool,
    /// What may be sent of the answer.
    pub text: Arc<str>,
    pub polls: u32,
    pub ended: Option<Result<Arc<Answer>, Error>>,
}

/// Who listens to a run, and what has reached them.
#[derive(Debug)]
struct Callers {
    live: usize,
    began: Instant,
    ended: Option<Instant>,
    /// When a caller last left without its answer.
    left: Option<Instant>,
    /// When the answer was last written out to the last byte.
    written: Option<Instant>,
    /// When the error was first and last told.
    told: Option<(Instant, Instant)>,
}

/// How a caller's place at a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Without its answer, or told that it has not come yet.
    Left,
    /// With the last byte of the answer or of its error.
    Written,
}

/// The runs that a repeated request may attach to.
#[derive(Debug)]
pub struct Ledger {
    runs: DashMap<RequestKey, Vec<Arc<Run>>>,
    keyed: DashMap<RequestKey, Arc<Run>>,
    order: Mutex<VecDeque<Arc<Run>>>,
    /// Taken while a request with an `Idempotency-Key` looks for its run and begins one.
    one_at_a_time: Mutex<()>,
    keep: Duration,
    max: usize,
}

/// Whether a run, as its callers and its error are, may be attached to.
type May<'a> = &'a dyn Fn(&Callers, Option<&Error>) -> bool;

/// A request with this `Idempotency-Key` was another request.
#[derive(Debug)]
pub struct KeyReused;

impl Run {
    pub fn new(request: RequestKey, keyed: Option<RequestKey>, place: Place) -> Arc<Self> {
        let progress = Progress {
            place,
            accepted: false,
            text: Arc::from(""),
            polls: 0,
            ended: None,
        };
        Arc::new(Self {
            request,
            keyed,
            progress: watch::Sender::new(progress),
            callers: Mutex::new(Callers {
                live: 1,
                began: Instant::now(),
                ended: None,
                left: None,
                written: None,
                told: None,
            }),
        })
    }

    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells every listener of a change.
    pub fn report(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// The first end counts.
    pub fn end(&self, end: Result<Arc<Answer>, Error>) {
        self.callers().ended.get_or_insert_with(Instant::now);
        self.progress.send_modify(|progress| {
            progress.ended.get_or_insert(end);
            // The answer holds the whole text.
            progress.text = Arc::from("");
        });
    }

    /// Whether anybody waits for the answer.
    pub fn is_heard(&self) -> bool {
        self.callers().live > 0
    }

    /// Has ended, and nobody is being told.
    fn is_idle(&self) -> bool {
        let callers = self.callers();
        callers.ended.is_some() && callers.live == 0
    }

    /// A caller goes.
    pub fn leave(&self, leaving: Leaving) {
        let now = Instant::now();
        let failed = matches!(self.progress.borrow().ended, Some(Err(_)));
        let mut callers = self.callers();
        callers.live = callers.live.saturating_sub(1);
        match leaving {
            Leaving::Left => callers.left = Some(now),
            Leaving::Written if failed => {
                let first = callers.told.map_or(now, |(first, _)| first);
                callers.told = Some((first, now));
            }
            Leaving::Written => callers.written = Some(now),
        }
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place at this run if `may` says so; nobody can come between.
    fn attend(&self, may: May<'_>) -> bool {
        let error = self.error();
        let mut callers = self.callers();
        let may = may(&callers, error.as_ref());
        if may {
            callers.live += 1;
        }
        may
    }

    /// Whether there would be a place by now.
    fn admits(&self, may: May<'_>) -> bool {
        let error = self.error();
        may(&self.callers(), error.as_ref())
    }

    fn error(&self) -> Option<Error> {
        match &self.progress.borrow().ended {
            Some(Err(error)) => Some(error.clone()),
            Some(Ok(_)) | None => None,
        }
    }

    /// Whether nothing will be asked of this run any more.
    fn is_spent(&self, keep: Duration) -> bool {
        let callers = self.callers();
        let Some(ended) = callers.ended else {
            return false;
        };
        let keyed = self.keyed.is_some() && callers.began.elapsed() < KEYED_FOR;
        let left = callers.left;
        let left_lately = left.is_some_and(|left| left.elapsed() < RETRIED_WITHIN);
        if callers.live > 0 || keyed || left_lately {
            return false;
        }
        match (callers.written, callers.told) {
            (Some(written), _) => written.elapsed() > RETRIED_WITHIN,
            (None, Some((first, _))) => first.elapsed() > longest_told(),
            (None, None) => ended.max(callers.left.unwrap_or(ended)).elapsed() > keep,
        }
    }
}

impl Callers {
    /// Whether an error is repeated to whoever asks the same again, though it was told already.
    fn repeats(&self, error: &Error) -> bool {
        let (within, in_all) = standing(error);
        self.told
            .is_some_and(|(first, last)| last.elapsed() < within && first.elapsed() < in_all)
    }

    fn is_owed(&self) -> bool {
        self.live == 0 && self.written.is_none() && self.told.is_none()
    }
}

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
    pub fn new(keep: Duration, max: usize) -> Self {
        Self {
            runs: DashMap::new(),
            keyed: DashMap::new(),
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
            let kept = run.filter(|run| run.callers().began.elapsed() < KEYED_FOR);
            let Some(run) = kept else {
                return Ok(None);
            };
            if run.request != *request {
                return Err(KeyReused);
            }
            return Ok(take(&run, &|_, error| stands(error)).then_some(run));
        }
        let runs = self.runs.get(request).map(|runs| runs.clone());
        let newest: Vec<Arc<Run>> = runs.into_iter().flatten().rev().collect();
        let owed = |callers: &Callers, error: Option<&Error>| {
            let since = callers.left.max(callers.ended);
            let lately = since.is_some_and(|since| since.elapsed() < self.keep);
            callers.is_owed() && stands(error) && (lately || callers.ended.is_none())
        };
        let repeats = |callers: &Callers, error: Option<&Error>| {
            error.is_some_and(|error| error.stands() && callers.repeats(error))
        };
        let lately = |callers: &Callers, error: Option<&Error>| {
            let recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < RETRIED_WITHIN);
            callers.live == 0 && stands(error) && (recent(callers.left) || recent(callers.written))
        };
        let first = |may: May<'_>| newest.iter().find(|run| take(run, may)).cloned();
        let found = first(&|callers, error| owed(callers, error) || repeats(callers, error));
        Ok(match found {
            None if repeat.marked => first(&lately),
            found => found,
        })
    }

    pub fn add(&self, run: &Arc<Run>) {
        self.runs.entry(run.request).or_default().push(run.clone());
        if let Some(key) = run.keyed {
            self.keyed.insert(key, run.clone());
        }
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.push_back(run.clone());
        let mut dropped = Vec::new();
        for _ in 0..SWEPT_AT_ONCE {
            let Some(oldest) = order.pop_front() else {
                break;
            };
            let over = order.len() >= self.max && oldest.is_idle();
            if over || oldest.is_spent(self.keep) {
                dropped.push(oldest);
            } else {
                order.push_back(oldest);
            }
        }
        drop(order);
        for run in dropped {
            self.forget(&run);
        }
    }

    fn forget(&self, run: &Arc<Run>) {
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
