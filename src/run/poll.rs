//! Follows an accepted message until its run can no longer change.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{Reading, read_off};
use super::apart::aside;
use super::audience::Run;
use super::calls::Calls;
use super::listing::Listing;
use super::pace::estimate::Bracket;
use super::pace::{Beat, Pace, Rhythm};
use super::post::Accepted;
use super::progress::withdrawn;
use super::{Error, Finish};
use crate::conversation::Caller;
use crate::ids::Mark;
use crate::metrics::Metrics;
use crate::planted::{Bug, is_planted};
use crate::upstream::{ReadError, RunStatus, ThreadId};

/// A run that says it has ended, and whose answer is not in the thread, is read again: at least so
/// often, and for at least so long.
const MISSING_POLLS: u32 = 10;
const MISSING_FOR: Duration = Duration::from_secs(30);

/// A text that has not grown by the run's end may be half of one that lags behind the status: it is
/// read again so often before it is believed.
const UNGROWN_POLLS: u32 = 2;

/// How soon it is noticed that somebody waits again for a run that nobody waited for.
const LISTENS_EVERY: Duration = Duration::from_millis(250);

/// Follows one run.
#[derive(Debug)]
pub struct Poll<'a> {
    pub calls: &'a Calls,
    pub pace: &'a Pace,
    pub metrics: &'a Metrics,
    pub caller: &'a Caller,
    pub thread: &'a ThreadId,
    /// Of the text that was posted.
    pub mark: Mark,
    pub limit: Instant,
    pub run: &'a Run,
    /// The run may have been under way for long, and no read of it is remembered.
    pub wary: bool,
    /// How long it had been under way before it was followed here.
    pub age: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    Answered(Reading, Finish),
    /// Without an answer; the message stays in the thread.
    Failed(Error),
    /// The upstream has lost the thread.
    Lost,
}

/// What is kept from poll to poll.
struct Progress {
    posted: Instant,
    /// Since when reads have shown it ended.
    ended: Option<Instant>,
    polls: u32,
    failures: u32,
    last_pending: Instant,
    /// Since when, and in how many reads, an ended run has shown no answer.
    missing: Option<(Instant, u32)>,
    /// What the last read of the unfinished run showed of its text.
    partial: Option<String>,
    /// In how many reads an ended run has shown no more than that.
    ungrown: u32,
    /// No read has shown the thread yet.
    unseen: bool,
    lost_once: bool,
    /// The POST did not say that the run had ended: one that ends at once is not waited for.
    is_timed: bool,
}

impl Progress {
    fn new(now: Instant, accepted: &Accepted) -> Self {
        Self {
            posted: now,
            polls: 0,
            failures: 0,
            last_pending: now,
            ended: None,
            missing: None,
            partial: None,
            ungrown: 0,
            unseen: accepted.seen.keys.is_empty(),
            lost_once: false,
            is_timed: false,
        }
    }
}

impl Poll<'_> {
    /// Polls to the end. `grown` is told the answer's text whenever a read shows any.
    pub async fn follow(&self, accepted: &Accepted, mut grown: impl FnMut(u32, &str)) -> Ended {
        let _followed = self.calls.follow();
        let rhythm = self.pace.rhythm(&self.caller.account);
        let now = Instant::now();
        let mut progress = Progress::new(now, accepted);
        let mut last = now;
        let mut due = now;
        match accepted.posted.status {
            Some(RunStatus::Completed | RunStatus::Incomplete) => {}
            Some(status @ (RunStatus::Failed | RunStatus::Cancelled | RunStatus::Expired)) => {
                return Ended::Failed(ending(status, accepted.posted.failure.as_deref()));
            }
            Some(RunStatus::Pending) | None => {
                progress.is_timed = true;
                due += self.wait(&rhythm, &progress);
            }
        }
        loop {
            if due >= self.limit {
                sleep_until(self.limit).await;
                self.learn(&rhythm, &progress);
                return Ended::Failed(Error::Expired);
            }
            self.sleep_until(due, last).await;
            if is_planted(Bug::CancelFrees) && self.run.is_withdrawn() {
                return Ended::Failed(withdrawn());
            }
            progress.polls += 1;
            // Boxed: a run that sleeps needs no room for it.
            let read = Box::pin(self.calls.read(self.caller, self.thread));
            let Ok(answer) = timeout_at(self.limit, read).await else {
                return Ended::Failed(Error::Expired);
            };
            let wait = match answer {
                Ok(listing) => {
                    progress.failures = 0;
                    progress.unseen = false;
                    progress.lost_once = false;
                    let reading = read_off(&self.calls.salt, &accepted.seen, self.mark, &listing);
                    grown(progress.polls, reading.text.as_deref().unwrap_or_default());
                    match self.judge(&mut progress, &listing, reading) {
                        Some(ended) => {
                            self.learn(&rhythm, &progress);
                            return self.left(ended);
                        }
                        None => self.wait(&rhythm, &progress),
                    }
                }
                Err(error) => match self.stumble(&mut progress, &error) {
                    Ok(wait) => wait,
                    Err(ended) => return ended,
                },
            };
            last = Instant::now();
            due = last + wait;
        }
    }

    fn wait(&self, rhythm: &Rhythm<'_>, progress: &Progress) -> Duration {
        let beat = Beat {
            so_far: self.age + progress.posted.elapsed(),
            polls: progress.polls,
            runs: self.calls.followed(),
        };
        rhythm.wait(self.thread, beat)
    }

    /// What the polls have shown of how long the run has taken.
    fn learn(&self, rhythm: &Rhythm<'_>, progress: &Progress) {
        let seconds = |at: Instant| (self.age + (at - progress.posted)).as_secs_f64();
        if !progress.is_timed {
            return;
        }
        let after = if progress.last_pending == progress.posted {
            0.0
        } else {
            seconds(progress.last_pending)
        };
        // One that is given up may go on for ever.
        let by = progress.ended.map_or(f64::INFINITY, seconds);
        if let Some(learner) = rhythm.saw(Bracket { after, by }) {
            aside(move || learner.renew());
        }
    }

    /// Sleeps until the next poll is due, which it is soon when the machine has slept. `last` is when
    /// the thread was read.
    async fn sleep_until(&self, due: Instant, last: Instant) {
        let _dozing = self.calls.doze();
        tokio::select! {
            biased;
            () = self.sleep_while_unheard(due) => {}
            () = self.calls.wakings.next() => {
                let soon = Instant::now() + self.pace.soon(self.thread, last);
                sleep_until(soon.min(self.limit)).await;
            }
        }
    }

    /// Sleeps until the next poll is due; up to twice as long while nobody waits for the answer.
    async fn sleep_while_unheard(&self, due: Instant) {
        // The timer would round even no time up to its next tick.
        let Some(latest) = self.latest(due) else {
            return;
        };
        let mut next = due;
        loop {
            sleep_until(next).await;
            if next >= latest || self.run.is_heard() {
                return;
            }
            next = latest.min(next + LISTENS_EVERY);
        }
    }

    /// When a poll is made that nobody waits for; `None` where it is due already. Apart, so that a run that
    /// sleeps keeps no room for it.
    fn latest(&self, due: Instant) -> Option<Instant> {
        let wait = due.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then(|| self.limit.min(due + wait))
    }

    fn left(&self, ended: Ended) -> Ended {
        self.calls.leave(self.caller, self.thread);
        ended
    }

    /// The wait after a read that told nothing.
    fn stumble(&self, progress: &mut Progress, error: &ReadError) -> Result<Duration, Ended> {
        let asked = match error {
            ReadError::KeyRefused(status) => {
                return Err(Ended::Failed(Error::KeyRefused(*status)));
            }
            // A thread that we have just begun may not be seen everywhere yet; given up too soon, the
            // same message would be posted on another.
            ReadError::NoThread if progress.unseen && progress.posted.elapsed() < MISSING_FOR => {
                return Ok(self.pace.wait(progress.polls.saturating_sub(1)));
            }
            // Another one is read once more, and it is lost.
            ReadError::NoThread if progress.lost_once => return Err(Ended::Lost),
            ReadError::NoThread => {
                progress.lost_once = true;
                return Ok(self.pace.wait(0));
            }
            ReadError::Busy(busy) => busy.retry_after,
            ReadError::Passing(_) => None,
        };
        progress.failures += 1;
        Ok(self.pace.back_off(self.thread, progress.failures, asked))
    }

    fn judge(&self, progress: &mut Progress, listing: &Listing, reading: Reading) -> Option<Ended> {
        let now = Instant::now();
        let status = listing.status.unwrap_or(RunStatus::Pending);
        progress.ended.get_or_insert(now);
        let finish = match status {
            RunStatus::Pending => {
                progress.last_pending = now;
                progress.ended = None;
                progress.missing = None;
                progress.ungrown = 0;
                if listing.status.is_some() && reading.text.is_some() {
                    progress.partial = reading.text;
                }
                return None;
            }
            RunStatus::Failed | RunStatus::Cancelled | RunStatus::Expired => {
                return Some(Ended::Failed(ending(status, listing.failure.as_deref())));
            }
            RunStatus::Completed => Finish::Stop,
            RunStatus::Incomplete => Finish::Length,
        };
        if reading.text.is_some() {
            if self.wary {
                // The end may be the previous run's, and the text may still grow.
                if reading.text != progress.partial {
                    progress.partial = reading.text;
                    return None;
                }
            } else if reading.text == progress.partial && progress.ungrown < UNGROWN_POLLS {
                progress.ungrown += 1;
                return None;
            }
            self.metrics.run_ended(now - progress.posted);
            self.metrics.lag(now - progress.last_pending);
            return Some(Ended::Answered(reading, finish));
        }
        if is_planted(Bug::NoLag) {
            return Some(Ended::Answered(reading, finish));
        }
        // The end may be the previous run's, and messages may lag behind the status.
        let (since, reads) = progress.missing.unwrap_or((now, 0));
        progress.missing = Some((since, reads + 1));
        if reads < MISSING_POLLS || now - since < MISSING_FOR {
            return None;
        }
        Some(Ended::Failed(match status {
            RunStatus::Incomplete => ending(status, listing.failure.as_deref()),
            _ => Error::Upstream {
                what: "the run completed, but its answer is not in the thread".to_owned(),
                posted: true,
            },
        }))
    }
}

fn ending(status: RunStatus, words: Option<&str>) -> Error {
    let words = |silent: &str| words.unwrap_or(silent).to_owned();
    match status {
        RunStatus::Cancelled => Error::Cancelled(words("the upstream gave no reason")),
        RunStatus::Expired => Error::Expired,
        RunStatus::Incomplete => Error::Failed(words("it ended early, without any text")),
        RunStatus::Failed | RunStatus::Pending | RunStatus::Completed => {
            Error::Failed(words("the upstream gave no reason"))
        }
    }
}
