//! Calls of the upstream: counted, bounded, slowed down as one where the upstream asks for it, and
//! kept back while it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::{Instant, sleep_until, timeout};

use super::apart::listing;
use super::breaker::{Breaker, Failure, Pass};
use super::budget::Budget;
use super::listing::Listing;
use super::places::{Kind, Place, Places};
use super::stagger::Stagger;
use super::wake::Wakings;
use crate::config::Config;
use crate::conversation::Caller;
use crate::conversation::salt::Salt;
use crate::ids::{ByOurs, Tenant};
use crate::metrics::{Call, CallResult, Metrics};
use crate::secret::Secret;
use crate::upstream::{
    Busy, NewMessage, PostError, Posted, ReadError, Refusal, Thread, ThreadId, Upstream,
};

/// The longest that one answer holds up all traffic of a key.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A POST that would have to wait longer than this for the end of a pause is not made.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// After a pause, the calls that waited for its end go one by one.
const APART: Duration = Duration::from_millis(20);

/// How many keys may be paused at once before those whose pause is over are dropped.
const PAUSES: usize = 1024;

/// After so many reads, and as many again as were kept the last time, the threads that are due again are
/// dropped.
const READS: usize = 4096;

/// The upstream, as runs call it.
#[derive(Debug)]
pub struct Calls {
    upstream: Arc<dyn Upstream>,
    metrics: Arc<Metrics>,
    pub salt: Salt,
    /// By upstream key: what holds up its calls.
    pauses: ByOurs<Tenant, Pause>,
    /// How long a 429 holds them up that does not say how long.
    pause: Duration,
    /// When each thread was last read.
    reads: DashMap<ThreadId, Instant>,
    /// How many reads are noted yet before that is looked through.
    until_swept: AtomicUsize,
    min_gap: Duration,
    breaker: Breaker,
    budget: Budget,
    /// Places among the calls in flight, and how long one may be waited for.
    places: Places,
    patience: Duration,
    /// Polls that have waited long for their place.
    late: Stagger,
    followed: AtomicUsize,
    dozing: AtomicUsize,
    pub wakings: Wakings,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    /// Calls that wait for its end.
    waiting: u32,
}

/// One of so many, for as long as this lives.
#[derive(Debug)]
pub struct OneOf<'a>(&'a AtomicUsize);

impl<'a> OneOf<'a> {
    fn more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for OneOf<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    pub fn new(
        config: &Config,
        upstream: Arc<dyn Upstream>,
        metrics: Arc<Metrics>,
        salt: Salt,
    ) -> Self {
        Self {
            upstream,
            salt,
            pauses: ByOurs::default(),
            pause: config.pace.interval,
            reads: DashMap::new(),
            until_swept: AtomicUsize::new(READS),
            min_gap: config.pace.min_gap,
            breaker: Breaker::new(config.pace.min_gap, metrics.clone()),
            budget: Budget::new(config.pace.max_polls_per_second),
            places: Places::new(
                config.upstream.max_connections,
                config.upstream.most_of_each(),
            ),
            patience: config.upstream.queue_timeout,
            late: Stagger::default(),
            followed: AtomicUsize::default(),
            dozing: AtomicUsize::default(),
            wakings: Wakings::default(),
            metrics,
        }
    }

    /// Whether the upstream fails for everyone, or for some key.
    pub fn is_failing(&self) -> (bool, bool) {
        self.breaker.is_open()
    }

    /// Counts one more run that is polled.
    pub fn follow(&self) -> OneOf<'_> {
        OneOf::more(&self.followed)
    }

    /// How many runs are polled.
    pub fn followed(&self) -> usize {
        self.followed.load(Ordering::Relaxed)
    }

    /// Counts one more run that sleeps until its next poll.
    pub fn doze(&self) -> OneOf<'_> {
        OneOf::more(&self.dozing)
    }

    /// How many runs sleep until their next poll.
    pub fn dozing(&self) -> usize {
        self.dozing.load(Ordering::Relaxed)
    }

    /// No run is under way on this thread any more: it may be read to see how the upstream is.
    pub fn leave(&self, caller: &Caller, thread: &ThreadId) {
        self.breaker.leave(&caller.account, thread);
    }

    pub async fn post(&self, caller: &Caller, message: &NewMessage) -> Result<Posted, PostError> {
        let key = &caller.account;
        self.pass(caller).await.map_err(PostError::Failing)?;
        if let Some(thread) = &message.thread {
            self.breaker.enter(key, thread);
        }
        if let Some(wait) = self.paused_for(key).filter(|wait| *wait > LONGEST_WAIT) {
            return Err(PostError::Refused(Refusal {
                status: 429,
                retry_after: Some(wait),
                words: String::new(),
            }));
        }
        self.pause_over(key).await;
        let place = self.place(Kind::Post, caller).await;
        let _place = place.ok_or(PostError::Crowded)?;
        let answer = match self.upstream.post(&caller.key, message).await {
            Ok(posted) => Ok(Posted {
                failure: posted.failure.map(|words| without_key(words, &caller.key)),
                ..posted
            }),
            Err(PostError::Refused(refusal)) => Err(PostError::Refused(Refusal {
                words: without_key(refusal.words, &caller.key),
                ..refusal
            })),
            Err(error) => Err(error),
        };
        let result = self.note_post(key, message, &answer);
        self.metrics.upstream_call(Call::Post, result);
        answer
    }

    fn note_read(&self, thread: &ThreadId) {
        let now = Instant::now();
        self.reads.insert(thread.clone(), now);
        if self.until_swept.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.reads.retain(|_, last| *last + self.min_gap > now);
            let kept = self.reads.len();
            self.until_swept.store(READS + kept, Ordering::Relaxed);
        }
    }

    /// What a POST's answer says of the upstream.
    fn note_post(
        &self,
        key: &Tenant,
        message: &NewMessage,
        answer: &Result<Posted, PostError>,
    ) -> CallResult {
        let Err(error) = answer else {
            self.breaker.succeeded(key);
            return CallResult::Ok;
        };
        match error {
            PostError::Unsent(_) | PostError::Certificate(_) => {
                self.breaker.failed(key, Failure::Connect);
                CallResult::Unreachable
            }
            PostError::Unknown(_) => {
                let thread = message.thread.as_ref();
                self.breaker.failed(key, Failure::Call(thread));
                CallResult::Unknown
            }
            PostError::Failing(_) | PostError::Crowded => CallResult::Failed,
            PostError::Refused(refusal) => match refusal.status {
                status @ (429 | 503) => {
                    self.pause(key, Some(status), refusal.retry_after);
                    CallResult::Busy
                }
                status => {
                    self.breaker.succeeded(key);
                    match status {
                        401 | 403 => CallResult::KeyRefused,
                        404 => CallResult::NoThread,
                        _ => CallResult::Refused,
                    }
                }
            },
        }
    }

    pub async fn read(&self, caller: &Caller, thread: &ThreadId) -> Result<Listing, ReadError> {
        let key = &caller.account;
        if let Some(from) = self.breaker.enter(key, thread) {
            sleep_until(from).await;
        }
        self.read_as(key, caller, thread).await
    }

    /// As [`Calls::read`], of a thread on which somebody else's run may be under way: no sooner than
    /// the least gap after the last read of it.
    pub async fn read_apart(
        &self,
        caller: &Caller,
        thread: &ThreadId,
    ) -> Result<Listing, ReadError> {
        loop {
            let last = self.reads.get(thread).map(|last| *last);
            match last.map(|last| last + self.min_gap) {
                Some(due) if due > Instant::now() => sleep_until(due).await,
                _ => return self.read(caller, thread).await,
            }
        }
    }

    /// As above, where reads are counted: one that found no place here was none, and is made again
    /// until `limit`.
    pub async fn read_at_last(
        &self,
        caller: &Caller,
        thread: &ThreadId,
        limit: Instant,
    ) -> Result<Listing, ReadError> {
        loop {
            let answer = self.read_apart(caller, thread).await;
            let is_crowded = matches!(&answer, Err(ReadError::Busy(busy)) if *busy == Busy::HERE);
            let again = Instant::now() + self.pause;
            if !is_crowded || again > limit {
                return answer;
            }
            sleep_until(again).await;
        }
    }

    async fn read_as(
        &self,
        key: &Tenant,
        caller: &Caller,
        thread: &ThreadId,
    ) -> Result<Listing, ReadError> {
        self.pause_over(key).await;
        self.budget.turn(key, caller.tenant).await;
        let asked = Instant::now();
        // A read can be made later as well.
        let place = self.place(Kind::Read, caller).await;
        let _place = place.ok_or(ReadError::Busy(Busy::HERE))?;
        self.late.turn(asked, self.followed(), self.min_gap).await;
        self.metrics.polled();
        self.note_read(thread);
        let read = self.upstream.read(&caller.key, thread).await;
        let answer = read.map(|thread| Thread {
            failure: thread.failure.map(|words| without_key(words, &caller.key)),
            ..thread
        });
        let result = match &answer {
            Ok(_) => CallResult::Ok,
            Err(ReadError::KeyRefused(_)) => CallResult::KeyRefused,
            Err(ReadError::NoThread) => CallResult::NoThread,
            Err(ReadError::Busy(busy)) => {
                self.pause(key, busy.status, busy.retry_after);
                CallResult::Busy
            }
            Err(ReadError::Passing(_)) => CallResult::Failed,
        };
        match result {
            CallResult::Busy => {}
            CallResult::Failed => self.breaker.failed(key, Failure::Call(Some(thread))),
            _ => self.breaker.succeeded(key),
        }
        self.metrics.upstream_call(Call::Read, result);
        Ok(listing(&self.salt, answer?).await)
    }

    /// Whether something new may be posted; else, after how long to ask again. A try that is due
    /// is made here.
    pub async fn pass(&self, caller: &Caller) -> Result<(), Duration> {
        let key = &caller.account;
        match self.breaker.pass(key) {
            Pass::Go => Ok(()),
            Pass::Closed(wait) => Err(wait),
            Pass::Try(thread) => {
                // What it shows is of no interest; whether the upstream is back stands with the breaker.
                let _ = self.read_as(key, caller, &thread).await;
                self.closed_for(caller).map_or(Ok(()), Err)
            }
        }
    }

    /// How long nothing new is posted for this caller, as far as is known.
    pub fn closed_for(&self, caller: &Caller) -> Option<Duration> {
        self.breaker.closed_for(&caller.account)
    }

    /// Waiting is bounded by time, not by how many wait.
    async fn place(&self, kind: Kind, caller: &Caller) -> Option<Place> {
        let place = timeout(self.patience, self.places.take(kind, caller.tenant));
        place.await.ok()
    }

    fn paused_for(&self, key: &Tenant) -> Option<Duration> {
        let until = self.pauses.get(key)?.until;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Waits for the end of the key's pause, however often that is put off.
    async fn pause_over(&self, key: &Tenant) {
        let mut turn = None;
        loop {
            let now = Instant::now();
            let due = match self.pauses.get_mut(key) {
                Some(mut pause) if turn.is_some() || pause.until > now => {
                    let turn = *turn.get_or_insert_with(|| {
                        pause.waiting += 1;
                        pause.waiting - 1
                    });
                    pause.until + APART * turn
                }
                _ => break,
            };
            if due <= now {
                break;
            }
            sleep_until(due).await;
        }
        if turn.is_some() {
            let now = Instant::now();
            self.pauses
                .remove_if(key, |_, pause| pause.until + APART * pause.waiting <= now);
        }
    }

    fn pause(&self, key: &Tenant, status: Option<u16>, retry_after: Option<Duration>) {
        let default = (status == Some(429)).then_some(self.pause);
        let Some(wait) = retry_after.or(default) else {
            return;
        };
        let now = Instant::now();
        if self.pauses.len() >= PAUSES {
            self.pauses
                .retain(|_, pause| pause.until + APART * pause.waiting > now);
        }
        let until = now + wait.min(LONGEST_PAUSE);
        let mut pause = self
            .pauses
            .entry(*key)
            .or_insert(Pause { until, waiting: 0 });
        if pause.until <= now {
            pause.waiting = 0;
        }
        pause.until = until.max(pause.until);
    }
}

/// The upstream's words, which are told to callers, without the key that it was shown: the proxy
/// may hold that key for all of them. The words may have been cut off within it.
fn without_key(words: String, key: &Secret) -> String {
    const SHOWN: &str = "[key]";
    const LEAST: usize = 4;
    let key = key.expose();
    if key.is_empty() {
        return words;
    }
    let mut words = words.replace(key, SHOWN);
    let mut beginnings = (LEAST..key.len()).rev().filter_map(|end| key.get(..end));
    let cut = beginnings.find(|part| words.ends_with(part));
    if let Some(beginning) = cut {
        words.truncate(words.len() - beginning.len());
        words.push_str(SHOWN);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_out_of_the_upstream_s_words() {
        let key = Secret::new("sk-12345678");
        for (words, told) in [
            ("no table", "no table"),
            ("bad token sk-12345678 here", "bad token [key] here"),
            ("bad token sk-12345", "bad token [key]"),
            ("ask-", "ask-"),
        ] {
            assert_eq!(without_key(words.to_owned(), &key), told);
        }
        assert_eq!(without_key("words".to_owned(), &Secret::new("")), "words");
    }
}
