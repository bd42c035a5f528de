//! All threads of a sandbox, what the script makes of each call, and what was called.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::document::{self, Mint, Told};
use super::recital::recital;
use super::reply::{Refusal, Reply};
use super::script::{Answer, Behaviour, Content, Lands, Script};
use super::thread::{Run, Thread};
use super::{Kind, Request, Seen, demo, part};
use crate::secret::Secret;
use crate::upstream::ThreadId;

/// Calls remembered for inspection.
const MAX_CALLS: usize = 100_000;
/// Messages held over all threads; beyond, the oldest threads are forgotten.
const MAX_MESSAGES: usize = 20_000;
/// Bytes of messages held over all threads.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Steps in which an answer from the sample data grows.
const DEMO_GROWTH: u32 = 4;
const NO_THREAD: Refusal = Refusal {
    status: 404,
    words: "there is no such thread",
};

/// Everything that a sandbox knows.
pub struct State {
    pub script: Script,
    mint: Mint,
    threads: HashMap<ThreadId, Thread>,
    /// Oldest first.
    order: VecDeque<ThreadId>,
    calls: VecDeque<Seen>,
    /// Numbers threads and runs.
    counter: u64,
    messages: usize,
    bytes: usize,
}

impl State {
    pub fn new(script: Script) -> Self {
        Self {
            mint: Mint {
                seed: script.seed,
                started: Instant::now(),
            },
            script,
            threads: HashMap::new(),
            order: VecDeque::new(),
            calls: VecDeque::new(),
            counter: 0,
            messages: 0,
            bytes: 0,
        }
    }

    /// Notes the call, and checks its key.
    pub fn admit(&mut self, key: Option<&Secret>, request: &Request) -> Result<(), Refusal> {
        let (kind, thread) = match request {
            Request::NewMessage { thread_id, .. } => (Kind::Post, thread_id.as_deref()),
            Request::GetThread { thread_id } => (Kind::Read, Some(thread_id.as_str())),
        };
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(Seen {
            at: Instant::now(),
            key: key.cloned(),
            kind,
            thread: thread.map(|id| ThreadId(id.into())),
        });
        match &self.script.key {
            Some(right) if key.is_none_or(|key| key.expose() != right.0.expose()) => Err(Refusal {
                status: 401,
                words: "the API key is not valid",
            }),
            _ => Ok(()),
        }
    }

    /// What the script has in mind for a message; uses up one use of a rule.
    pub fn behaviour(&mut self, message: &str) -> Arc<Behaviour> {
        let rule = self
            .script
            .rules
            .iter_mut()
            .find(|rule| rule.times != Some(0) && message.contains(&rule.when));
        let behaviour = match rule {
            Some(rule) => {
                rule.times = rule.times.map(|times| times.saturating_sub(1));
                &rule.behaviour
            }
            None => &self.script.behaviour,
        };
        Arc::new(behaviour.clone())
    }

    /// Takes a message, or refuses it; the proper answer if it is taken.
    pub fn take(
        &mut self,
        message: String,
        thread: Option<ThreadId>,
        behaviour: &Arc<Behaviour>,
    ) -> Result<Map<String, Value>, Refusal> {
        let now = Instant::now();
        if message.is_empty() {
            return Err(Refusal {
                status: 400,
                words: "there is no message",
            });
        }
        if let Some(id) = &thread {
            let known = self.threads.get(id);
            let Some(newest) = known.and_then(|thread| thread.newest(now)) else {
                return Err(NO_THREAD);
            };
            if let Some(status) = behaviour.post.while_active
                && newest.is_active(now)
            {
                return Err(Refusal {
                    status,
                    words: "the thread has an active run",
                });
            }
        }
        let thread = thread.unwrap_or_else(|| {
            self.counter += 1;
            ThreadId(self.mint.id("th", self.counter).into())
        });
        self.counter += 1;
        let number = self.counter;
        let wait = match lands(behaviour) {
            Lands::Never => None,
            Lands::AtOnce => Some(Duration::ZERO),
            Lands::After(wait) => Some(wait),
        };
        if let Some(wait) = wait {
            let arrival = Arrival {
                number,
                message,
                lands: now + wait,
            };
            self.land(&thread, arrival, Arc::clone(behaviour));
        }
        let running = behaviour
            .running
            .first()
            .map_or("in_progress", String::as_str);
        let status = behaviour.post.status.as_deref().unwrap_or(running);
        let told = Told {
            status,
            failure: behaviour
                .failure
                .as_ref()
                .filter(|_| status == behaviour.ending),
            shape: behaviour.shape.run_status,
        };
        Ok(document::posted(self.mint, &thread, number, &told))
    }

    /// What a read of the thread is answered.
    pub fn read(&mut self, id: &ThreadId) -> Reply {
        let now = Instant::now();
        let mint = self.mint;
        let Some(thread) = self.threads.get_mut(id) else {
            return NO_THREAD.into();
        };
        let Some(run) = thread.count_read(now) else {
            return NO_THREAD.into();
        };
        let read = run.reads;
        let behaviour = Arc::clone(&run.behaviour);
        let scripted = behaviour.reads.iter().find(|rule| rule.concerns(read));
        let answer = scripted.map_or(&Answer::Proper, |rule| &rule.answer);
        match document::thread(mint, thread, now) {
            Some(proper) => Reply::new(answer, proper),
            None => NO_THREAD.into(),
        }
    }

    /// How long a read of the thread takes.
    pub fn read_delay(&self, id: &ThreadId) -> Duration {
        let newest = self
            .threads
            .get(id)
            .and_then(|thread| thread.newest(Instant::now()));
        newest.map_or(Duration::ZERO, |run| run.behaviour.read_delay)
    }

    pub fn posts(&self) -> Vec<(ThreadId, String)> {
        let now = Instant::now();
        let mut landed: Vec<_> = self
            .threads
            .values()
            .flat_map(|thread| thread.landed(now).into_iter().map(|run| (&thread.id, run)))
            .collect();
        landed.sort_by_key(|(_, run)| (run.lands, run.number));
        landed
            .into_iter()
            .map(|(thread, run)| (thread.clone(), run.message.clone()))
            .collect()
    }

    pub fn threads(&self) -> Vec<ThreadId> {
        let now = Instant::now();
        let holds = |id: &&ThreadId| {
            let thread = self.threads.get(id);
            thread.is_some_and(|thread| thread.newest(now).is_some())
        };
        self.order.iter().filter(holds).cloned().collect()
    }

    pub fn calls(&self) -> Vec<Seen> {
        self.calls.iter().cloned().collect()
    }

    pub fn remove(&mut self, id: &ThreadId) {
        self.order.retain(|known| known != id);
        if let Some(thread) = self.threads.remove(id) {
            let bytes: usize = thread.runs.iter().map(|run| run.message.len()).sum();
            self.messages = self.messages.saturating_sub(thread.runs.len());
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn land(&mut self, id: &ThreadId, arrival: Arrival, behaviour: Arc<Behaviour>) {
        let Arrival {
            number,
            message,
            lands,
        } = arrival;
        self.messages += 1;
        self.bytes += message.len();
        let order = &mut self.order;
        let thread = self.threads.entry(id.clone()).or_insert_with(|| {
            order.push_back(id.clone());
            Thread {
                id: id.clone(),
                runs: Vec::new(),
            }
        });
        let lifelike = behaviour.reply.is_empty() && behaviour.reply_after.is_none();
        let (reply_after, growth) = if lifelike {
            (
                demo::reply_time(&message),
                behaviour.growth.max(DEMO_GROWTH),
            )
        } else {
            (behaviour.reply_after.unwrap_or_default(), behaviour.growth)
        };
        let earlier: Vec<_> = thread.runs.iter().map(|run| run.message.as_str()).collect();
        let reply = reply(&behaviour, &earlier, &message);
        thread.runs.push(Run {
            number,
            message,
            lands,
            behaviour,
            reply,
            reply_after,
            growth,
            reads: 0,
            late_reads: 0,
        });
        while self.messages > MAX_MESSAGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.order.front().cloned() else {
                break;
            };
            self.remove(&oldest);
        }
    }
}

/// The assistant messages of a run.
fn reply(behaviour: &Behaviour, earlier: &[&str], message: &str) -> Vec<Content> {
    let played = behaviour
        .plays
        .and_then(|part| part::played(part, behaviour.spoilt, earlier, message));
    if let Some(played) = played {
        vec![Content::Text(played)]
    } else if behaviour.recites {
        vec![Content::Text(recital(earlier.iter().chain([&message])))]
    } else if behaviour.reply.is_empty() {
        vec![Content::Text(demo::answer(earlier, message))]
    } else {
        behaviour.reply.clone()
    }
}

/// A message on its way to a thread.
struct Arrival {
    number: u64,
    message: String,
    lands: Instant,
}

/// When the message reaches its thread, where the script leaves it to the answer.
fn lands(behaviour: &Behaviour) -> Lands {
    behaviour.post.lands.unwrap_or(match behaviour.post.answer {
        Answer::Proper
        | Answer::Typed(_)
        | Answer::Without(_)
        | Answer::With(_)
        | Answer::Cut(_)
        | Answer::Endless => Lands::AtOnce,
        Answer::Canned(_)
        | Answer::Reset
        | Answer::Hang
        | Answer::Unreachable
        | Answer::Certificate => Lands::Never,
    })
}
