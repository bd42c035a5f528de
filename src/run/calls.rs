//! Calls of the upstream: counted, and slowed down as one where the upstream asks for it.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::{Instant, sleep_until};

use super::listing::Listing;
use crate::conversation::salt::Salt;
use crate::ids::Tenant;
use crate::metrics::{Call, CallResult, Metrics};
use crate::secret::Secret;
use crate::upstream::{
    NewMessage, PostError, Posted, ReadError, Refusal, Thread, ThreadId, Upstream,
};

/// The longest that one `Retry-After` holds up all traffic of a key.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How many keys may be paused at once before those whose pause is over are dropped.
const PAUSES: usize = 1024;

/// The upstream, as runs call it.
#[derive(Debug)]
pub struct Calls {
    upstream: Arc<dyn Upstream>,
    metrics: Arc<Metrics>,
    salt: Salt,
    /// By upstream key: no call before this time.
    pauses: DashMap<Tenant, Instant>,
}

impl Calls {
    pub fn new(upstream: Arc<dyn Upstream>, metrics: Arc<Metrics>, salt: Salt) -> Self {
        Self {
            upstream,
            metrics,
            salt,
            pauses: DashMap::new(),
        }
    }

    pub async fn post(&self, key: &Secret, message: &NewMessage) -> Result<Posted, PostError> {
        self.pause_over(key).await;
        let answer = match self.upstream.post(key, message).await {
            Ok(posted) => Ok(Posted {
                failure: posted.failure.map(|words| without_key(words, key)),
                ..posted
            }),
            Err(PostError::Refused(refusal)) => Err(PostError::Refused(Refusal {
                words: without_key(refusal.words, key),
                ..refusal
            })),
            Err(error) => Err(error),
        };
        let result = match &answer {
            Ok(_) => CallResult::Ok,
            Err(PostError::Unsent(_) | PostError::Certificate(_)) => CallResult::Unreachable,
            Err(PostError::Unknown(_)) => CallResult::Unknown,
            Err(PostError::Refused(refusal)) => match refusal.status {
                401 | 403 => CallResult::KeyRefused,
                404 => CallResult::NoThread,
                429 | 503 => {
                    self.pause(key, refusal.retry_after);
                    CallResult::Busy
                }
                _ => CallResult::Refused,
            },
        };
        self.metrics.upstream_call(Call::Post, result);
        answer
    }

    pub async fn read(&self, key: &Secret, thread: &ThreadId) -> Result<Listing, ReadError> {
        self.pause_over(key).await;
        self.metrics.polled();
        let answer = self.upstream.read(key, thread).await.map(|thread| Thread {
            failure: thread.failure.map(|words| without_key(words, key)),
            ..thread
        });
        let result = match &answer {
            Ok(_) => CallResult::Ok,
            Err(ReadError::KeyRefused(_)) => CallResult::KeyRefused,
            Err(ReadError::NoThread) => CallResult::NoThread,
            Err(ReadError::Busy(retry_after)) => {
                self.pause(key, *retry_after);
                CallResult::Busy
            }
            Err(ReadError::Passing(_)) => CallResult::Failed,
        };
        self.metrics.upstream_call(Call::Read, result);
        answer.map(|thread| Listing::of(&self.salt, thread))
    }

    async fn pause_over(&self, key: &Secret) {
        if self.pauses.is_empty() {
            return;
        }
        let tenant = self.salt.tenant_of_key(key.expose());
        let until = self.pauses.get(&tenant).map(|until| *until);
        if let Some(until) = until {
            sleep_until(until).await;
            self.pauses
                .remove_if(&tenant, |_, until| *until <= Instant::now());
        }
    }

    fn pause(&self, key: &Secret, retry_after: Option<Duration>) {
        let Some(retry_after) = retry_after else {
            return;
        };
        let now = Instant::now();
        if self.pauses.len() >= PAUSES {
            self.pauses.retain(|_, until| *until > now);
        }
        let until = now + retry_after.min(LONGEST_PAUSE);
        let tenant = self.salt.tenant_of_key(key.expose());
        let mut pause = self.pauses.entry(tenant).or_insert(until);
        *pause = until.max(*pause);
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
