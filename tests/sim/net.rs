//! The way to the upstream: what was sent arrives though its sender is gone, and rules about what may
//! be sent are held against it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::run::listing::mark;
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::backend::{Backend, Table};
use chaturdata_proxy::store::record::{Phase, read_turn};
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::{
    Call, NewMessage, PostError, Posted, ReadError, Thread, ThreadId, Upstream,
};

use crate::journal::Journal;

/// The upstream as one process reaches it.
pub struct Net {
    pub sandbox: Sandbox,
    pub journal: Journal,
    pub salt: Salt,
    pub seen: Arc<Mutex<Sent>>,
}

/// What was sent to known threads, over all processes.
#[derive(Debug, Default)]
pub struct Sent {
    /// By thread: texts of which nobody knows whether they arrived.
    adrift: BTreeMap<String, Vec<String>>,
    /// The records are incomplete, as was to be expected.
    pub excused: bool,
}

thread_local! {
    /// What was found wrong in this run; the first counts.
    static WRONG: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes that a rule was broken. A panic in a task of the proxy would be caught there.
pub fn wrong(what: impl FnOnce() -> String) {
    WRONG.with_borrow_mut(|wrong| {
        wrong.get_or_insert_with(what);
    });
}

pub fn taken_wrong() -> Option<String> {
    WRONG.take()
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

impl Net {
    /// No POST without intent, and none on a thread that another one may still reach.
    fn check(&self, message: &NewMessage) {
        let mut sent = self.seen.lock().unwrap();
        if !self.journal.is_degraded() && !sent.excused {
            let posted = mark(&self.salt, &message.text);
            let intended = self.journal.look(|content| {
                content.iter().any(|((table, key), value)| {
                    *table == Table::Turns
                        && read_turn(key, value).is_ok_and(|(_, turn)| {
                            turn.posted == posted && turn.phase == Phase::Intended
                        })
                })
            });
            if !intended {
                wrong(|| format!("posted without intent: {:?}", message.text));
            }
        }
        let Some(thread) = &message.thread else {
            return;
        };
        let adrift = sent.adrift.entry(thread.to_string()).or_default();
        let landed = self.sandbox.posts();
        adrift.retain(|text| !landed.iter().any(|(at, post)| at == thread && post == text));
        if !adrift.is_empty() && !sent.excused {
            wrong(|| {
                format!(
                    "posted on {thread}, which a POST may still reach: {:?}",
                    message.text
                )
            });
        }
        let adrift = sent.adrift.entry(thread.to_string()).or_default();
        adrift.push(message.text.clone());
    }

    fn arrived(&self, message: &NewMessage) {
        if let Some(thread) = &message.thread {
            let mut sent = self.seen.lock().unwrap();
            let adrift = sent.adrift.entry(thread.to_string()).or_default();
            if let Some(at) = adrift.iter().position(|text| *text == message.text) {
                adrift.remove(at);
            }
        }
    }
}

impl Upstream for Net {
    #[expect(
        clippy::disallowed_methods,
        reason = "what was sent outlives its sender"
    )]
    fn post<'a>(
        &'a self,
        key: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        self.check(message);
        let (sandbox, own_key, sent) = (self.sandbox.clone(), key.clone(), message.clone());
        let answer = tokio::spawn(async move { sandbox.post(&own_key, &sent).await });
        Box::pin(async move {
            let answer = answer.await.unwrap();
            if !matches!(answer, Err(PostError::Unknown(_))) {
                self.arrived(message);
            }
            answer
        })
    }

    fn read<'a>(
        &'a self,
        key: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        self.sandbox.read(key, thread)
    }
}
