//! Posts a message at most once, by what is known of each attempt.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Error;
use super::answer::read_off;
use super::baseline::{nothing_new, remember};
use super::calls::Calls;
use super::listing::Listing;
use super::pace::Pace;
use crate::conversation::Caller;
use crate::conversation::salt::Salt;
use crate::ids::Mark;
use crate::planted::{Bug, is_planted};
use crate::store::Seen;
use crate::upstream::{NewMessage, PostError, Posted, ReadError, Refusal, RunStatus, ThreadId};

/// Attempts of a POST that never left this machine.
const UNSENT_ATTEMPTS: u32 = 3;
const UNSENT_WITHIN: Duration = Duration::from_secs(10);

/// Waits for an upstream that takes no more requests.
const BUSY_WAITS: u32 = 2;
const BUSY_WITHIN: Duration = Duration::from_secs(30);
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Reads of a thread that may hold a lost message, and the least time they are spread over.
const SEARCHES: u32 = 3;
const SEARCHED_FOR: Duration = Duration::from_secs(10);

/// Posts one message.
#[derive(Debug)]
pub struct Post<'a> {
    pub calls: &'a Calls,
    pub pace: &'a Pace,
    pub caller: &'a Caller,
    /// Nothing is waited for beyond this.
    pub limit: Instant,
}

/// A message that the upstream has.
#[derive(Debug)]
pub struct Accepted {
    pub posted: Posted,
    /// What the thread ended with before our message.
    pub seen: Seen,
}

/// Why a message is not on the thread it was meant for.
#[derive(Debug, PartialEq)]
pub enum Unposted {
    /// Not posted, and the caller is told.
    Refused(Error),
    /// The upstream has lost the thread.
    Lost,
    /// Somebody else has written in the thread.
    Foreign,
    /// It may be posted, or may be posted yet: the thread is never posted to again.
    Unknown,
}

impl Post<'_> {
    /// On a new thread.
    pub async fn begin(&self, text: &str) -> Result<Accepted, Unposted> {
        let message = NewMessage {
            thread: None,
            text: text.to_owned(),
        };
        match self.attempt(&message).await {
            Ok(posted) => Ok(Accepted {
                posted,
                seen: Seen::default(),
            }),
            Err(PostError::Unknown(_)) => Err(Unposted::Unknown),
            Err(error) => Err(Unposted::Refused(refusal(error))),
        }
    }

    /// What a thread ends with before it is posted to. `seen` is what our last read of it ended with;
    /// where that is missing, or `doubted`, the thread is read.
    pub async fn baseline(
        &self,
        thread: &ThreadId,
        seen: Option<Seen>,
        doubted: bool,
    ) -> Result<Seen, Unposted> {
        match seen {
            Some(seen) if !doubted || is_planted(Bug::TrustsTheDisk) => Ok(seen),
            Some(seen) => {
                let (shown, _) = self.settled(thread).await?;
                if nothing_new(&seen, &shown) {
                    Ok(seen)
                } else {
                    Err(Unposted::Foreign)
                }
            }
            // It cannot be told what was written since.
            None if doubted => Err(Unposted::Foreign),
            None => Ok(remember(&self.settled(thread).await?.0)),
        }
    }

    /// On a thread that is known, and that ends with what was `seen`.
    pub async fn append(
        &self,
        thread: &ThreadId,
        seen: Seen,
        text: &str,
        mark: Mark,
    ) -> Result<Accepted, Unposted> {
        let message = NewMessage {
            thread: Some(thread.clone()),
            text: text.to_owned(),
        };
        let mut retried = false;
        loop {
            let error = match self.attempt(&message).await {
                Ok(posted) => return Ok(Accepted { posted, seen }),
                Err(error) => error,
            };
            match error {
                PostError::Unknown(_) if !retried && is_planted(Bug::ResendsBlindly) => {
                    retried = true
                }
                PostError::Unknown(_) => {
                    let found = self.reconcile(thread, seen.clone(), mark).await;
                    if found.is_ok() || retried || !is_planted(Bug::ResendsWhereAbsent) {
                        return found;
                    }
                    retried = true;
                }
                PostError::Refused(Refusal { status: 404, .. }) => return Err(Unposted::Lost),
                // A run that is active, or was a moment ago, is a reason to refuse.
                PostError::Refused(Refusal {
                    status: status @ (400 | 409),
                    words,
                    ..
                }) if !retried => {
                    retried = true;
                    let (shown, waited) = self.settled(thread).await?;
                    if !waited && status == 400 {
                        return Err(Unposted::Refused(Error::Refused(words)));
                    }
                    if !nothing_new(&seen, &shown) {
                        return Err(Unposted::Foreign);
                    }
                }
                // Still busy, and not by our doing: the conversation goes on elsewhere.
                PostError::Refused(Refusal { status: 409, .. }) => return Err(Unposted::Foreign),
                error => return Err(Unposted::Refused(refusal(error))),
            }
        }
    }

    /// One POST, repeated only where it is known not to have been taken.
    async fn attempt(&self, message: &NewMessage) -> Result<Posted, PostError> {
        let began = Instant::now();
        let mut unsent = 0;
        let mut busy = 0;
        let mut waited = Duration::ZERO;
        loop {
            let error = match self.calls.post(self.caller, message).await {
                Ok(posted) => return Ok(posted),
                Err(error) => error,
            };
            let wait = match &error {
                PostError::Unsent(_) => {
                    unsent += 1;
                    let wait = Duration::from_millis(250) * 4_u32.pow(unsent - 1);
                    if unsent == UNSENT_ATTEMPTS || began.elapsed() + wait > UNSENT_WITHIN {
                        return Err(error);
                    }
                    wait
                }
                PostError::Refused(Refusal {
                    status: 429 | 503,
                    retry_after,
                    ..
                }) => {
                    busy += 1;
                    let wait = retry_after.unwrap_or(BUSY_WAIT);
                    waited += wait;
                    if busy > BUSY_WAITS || waited > BUSY_WITHIN {
                        return Err(error);
                    }
                    wait
                }
                PostError::Refused(_)
                | PostError::Certificate(_)
                | PostError::Failing(_)
                | PostError::Crowded
                | PostError::Unknown(_) => return Err(error),
            };
            sleep(wait).await;
        }
    }

    /// Reads the thread until no run is active in it; tells whether that had to be waited for.
    async fn settled(&self, thread: &ThreadId) -> Result<(Listing, bool), Unposted> {
        let failing = |wait| Unposted::Refused(Error::Failing(wait));
        self.calls.pass(self.caller).await.map_err(failing)?;
        let mut polls = 0;
        let mut failures = 0;
        loop {
            let wait = match self.calls.read(self.caller, thread).await {
                Ok(shown) if shown.status == Some(RunStatus::Pending) => {
                    failures = 0;
                    self.pace.wait(polls)
                }
                Ok(shown) => return Ok((shown, polls > 0)),
                Err(ReadError::NoThread) => return Err(Unposted::Lost),
                Err(ReadError::KeyRefused(status)) => {
                    return Err(Unposted::Refused(Error::KeyRefused(status)));
                }
                Err(ReadError::Busy(busy)) => {
                    failures += 1;
                    self.pace.back_off(thread, failures, busy.retry_after)
                }
                Err(ReadError::Passing(_)) => {
                    if let Some(wait) = self.calls.closed_for(self.caller) {
                        return Err(failing(wait));
                    }
                    failures += 1;
                    self.pace.back_off(thread, failures, None)
                }
            };
            polls += 1;
            if timeout_at(self.limit, sleep(wait)).await.is_err() {
                return Err(Unposted::Refused(Error::Unreachable));
            }
        }
    }

    /// Looks whether a message whose POST had no clear answer has come to the thread.
    pub async fn reconcile(
        &self,
        thread: &ThreadId,
        seen: Seen,
        mark: Mark,
    ) -> Result<Accepted, Unposted> {
        let gap = self.pace.min_gap().max(SEARCHED_FOR / SEARCHES);
        for _ in 0..SEARCHES {
            sleep(gap).await;
            let read = self.calls.read_at_last(self.caller, thread, self.limit);
            match read.await {
                Ok(shown) if is_shown(&self.calls.salt, &seen, mark, &shown) => {
                    // This read was a poll: whatever it says of the run, the next one says too.
                    return Ok(Accepted {
                        posted: Posted {
                            thread: thread.clone(),
                            status: None,
                            failure: None,
                        },
                        seen,
                    });
                }
                Err(ReadError::KeyRefused(_) | ReadError::NoThread) => break,
                Ok(_) | Err(ReadError::Busy(_) | ReadError::Passing(_)) => {}
            }
        }
        Err(Unposted::Unknown)
    }
}

/// Whether our message is in the thread; where the read does not reach back to the last one, an
/// older message may be equal, and it cannot be told.
fn is_shown(salt: &Salt, seen: &Seen, mark: Mark, listing: &Listing) -> bool {
    let reading = read_off(salt, seen, mark, listing);
    reading.ours && reading.overlaps
}

/// What the caller is told of a POST that was not taken.
fn refusal(error: PostError) -> Error {
    match error {
        PostError::Unsent(_) | PostError::Certificate(_) => Error::Unreachable,
        PostError::Failing(wait) => Error::Failing(wait),
        PostError::Crowded => Error::Overloaded,
        PostError::Unknown(_) => Error::OutcomeUnknown,
        PostError::Refused(refusal) => match refusal.status {
            401 | 403 => Error::KeyRefused(refusal.status),
            429 | 503 => Error::RateLimited(refusal.retry_after),
            400 | 409 | 413 | 422 => Error::Refused(refusal.words),
            status => Error::Upstream {
                what: format!("status {status} to a new message"),
                posted: false,
            },
        },
    }
}
