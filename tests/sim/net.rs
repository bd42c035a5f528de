//! The way to the upstream: what was sent arrives though its sender is gone, and rules about what may
//! be sent are held against it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
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

use crate::forms::{self, MENDING};
use crate::journal::Journal;

/// The upstream as one process reaches it.
pub struct Net {
    pub sandbox: Sandbox,
    pub journal: Journal,
    pub salt: Salt,
    pub seen: Arc<Mutex<Sent>>,
    /// Threads that this process has begun or read.
    pub known: Mutex<BTreeSet<String>>,
}

/// What was sent to known threads, over all processes.
#[derive(Debug, Default)]
pub struct Sent {
    /// By thread: texts of which nobody knows whether they arrived.
    adrift: BTreeMap<String, Vec<String>>,
    /// Texts that may have been posted, on whichever thread.
    doubtful: BTreeSet<String>,
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

impl Sent {
    /// Whether this prompt may stand somewhere.
    pub fn may_be_posted(&self, prompt: &str) -> bool {
        self.doubtful
            .iter()
            .any(|text| forms::prompt(text) == prompt)
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

impl Net {
    /// No POST without intent, none on a thread that another one may still reach, and none on a thread
    /// of an earlier process before a look at it.
    fn check(&self, message: &NewMessage) {
        let mut sent = self.seen.lock().unwrap();
        // What is mended can be mended again: nobody else has that thread.
        let is_mending = message.text.starts_with(MENDING);
        if !self.journal.is_degraded() && !sent.excused && !is_mending {
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
        sent.doubtful.insert(message.text.clone());
        let Some(thread) = &message.thread else {
            return;
        };
        if !self.known.lock().unwrap().contains(&*thread.0) {
            wrong(|| format!("posted on {thread} without a look at it"));
        }
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

    /// Has the upstream say things in the form that it was asked for, as far as it does.
    fn speak(&self, id: &ThreadId, thread: &mut Thread) {
        let posts: Vec<String> = self
            .sandbox
            .posts()
            .into_iter()
            .filter(|(on, _)| on == id)
            .map(|(_, text)| text)
            .collect();
        for message in &mut thread.messages {
            if let Some(shown) = forms::shown(&posts, &message.text) {
                message.text = shown;
            }
        }
    }

    fn know(&self, thread: &ThreadId) {
        self.known.lock().unwrap().insert(thread.to_string());
    }

    /// The upstream said what became of it.
    fn arrived(&self, message: &NewMessage, perhaps: bool) {
        if !perhaps {
            self.seen.lock().unwrap().doubtful.remove(&message.text);
        }
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
        let doubtful = self.seen.lock().unwrap().doubtful.contains(&message.text);
        self.check(message);
        let (sandbox, own_key, sent) = (self.sandbox.clone(), key.clone(), message.clone());
        let answer = tokio::spawn(async move { sandbox.post(&own_key, &sent).await });
        Box::pin(async move {
            let answer = answer.await.unwrap();
            if let Ok(posted) = &answer {
                self.know(&posted.thread);
            }
            crate::world::trace(|| format!("POST {message:?} {:?}: {answer:?}", message.text));
            if !matches!(answer, Err(PostError::Unknown(_))) {
                self.arrived(message, doubtful);
            }
            answer
        })
    }

    fn read<'a>(
        &'a self,
        key: &'a Secret,
        id: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        Box::pin(async move {
            let mut answer = self.sandbox.read(key, id).await;
            if let Ok(thread) = &mut answer {
                self.speak(id, thread);
                self.know(id);
            }
            crate::world::trace(|| format!("READ {id} {answer:?}"));
            answer
        })
    }
}
