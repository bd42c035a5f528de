//! The threads: how many runs each has had, its last messages, and when its run is ready.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chaturdata_proxy::config::{Config, Strategy};
use chaturdata_proxy::ids::Tenant;
use chaturdata_proxy::run::pace::{Beat, Pace};
use chaturdata_proxy::upstream::ThreadId;
use serde::Serialize;

use crate::spread::{Numbers, Spread};

const SHARDS: u64 = 64;

/// How runs go, and when they are expected to be read.
pub struct Course {
    pub runs: Spread,
    pub scale: f64,
    pub answer: usize,
    pub expected: Option<Expected>,
}

pub struct Threads {
    course: Course,
    began: Instant,
    next: AtomicU64,
    run: AtomicU32,
    pending: AtomicU64,
    numbers: Mutex<Numbers>,
    shards: Vec<Mutex<Vec<Thread>>>,
}

/// Times are seconds since the mock began.
#[derive(Default)]
struct Thread {
    runs: u32,
    /// Of the run before and the last one.
    prompts: [Option<Box<str>>; 2],
    accepted: f64,
    ready: f64,
    /// When the next read is expected, by the runs that were pending when the last one came; `None`
    /// where no schedule is known, and once a read has found it ready.
    due: Option<f64>,
    polls: u32,
    /// Of the read that found it ready: what the answer says of it.
    found: Option<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    late: f64,
    /// Microseconds since the epoch.
    at: u128,
}

/// What one read has shown.
pub struct Seen {
    pub is_ready: bool,
    /// How long the run took, how long after its end it was read, and how often before; `None` where
    /// this was not the first read that showed it ready.
    pub found: Option<(f64, f64, u32)>,
    pub late: f64,
}

#[derive(Serialize)]
pub struct Message {
    pub id: String,
    pub role: &'static str,
    pub created_at: u64,
    pub content: [Part; 1],
}

#[derive(Serialize)]
pub struct Part {
    r#type: &'static str,
    pub text: Text,
}

#[derive(Serialize)]
pub struct Text {
    pub value: String,
}

/// When polls are due.
pub struct Expected {
    first: f64,
    others: f64,
    varied: Option<Pace>,
}

impl Expected {
    pub fn new(polls: Option<&[f64]>, varied: bool) -> Option<Self> {
        let [first, others] = *polls? else {
            return None;
        };
        let pace = || {
            let mut settings = Config::default().pace;
            settings.strategy = Strategy::Fixed;
            settings.min_gap = Duration::from_secs_f64(first);
            settings.interval = Duration::from_secs_f64(others);
            Pace::new(&settings)
        };
        Some(Self {
            first,
            others,
            varied: varied.then(pace),
        })
    }

    /// How long after a read, or after the acceptance, the next read is due.
    fn wait(&self, id: &str, polls: u32, runs: u64) -> f64 {
        match &self.varied {
            None if polls == 0 => self.first,
            None => self.others,
            Some(pace) => {
                let beat = Beat {
                    so_far: Duration::ZERO,
                    polls,
                    runs: runs as usize,
                };
                let rhythm = pace.rhythm(&Tenant([0; 32]));
                rhythm.wait(&ThreadId(id.into()), beat).as_secs_f64()
            }
        }
    }
}

impl Threads {
    pub fn new(course: Course) -> Self {
        Self {
            course,
            began: Instant::now(),
            next: AtomicU64::new(0),
            run: AtomicU32::new(0),
            pending: AtomicU64::new(0),
            numbers: Mutex::new(Numbers::new(1)),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The thread's name, and how long the run takes. `None` where there is no such thread.
    pub fn post(&self, id: Option<&str>, prompt: String) -> Option<(String, f64)> {
        let run = self.run.fetch_add(1, Ordering::Relaxed);
        let takes = match self.course.runs {
            Spread::AtOnce => 0.0,
            runs => self.course.scale * runs.draw(&mut lock(&self.numbers), run),
        };
        let number = match id {
            Some(id) => number(id)?,
            None => self.begin(),
        };
        let mut shard = self.shard(number);
        let thread = shard.get_mut((number / SHARDS) as usize)?;
        thread.runs += 1;
        let [before, last] = &mut thread.prompts;
        *before = last.replace(prompt.into_boxed_str());
        let now = self.began.elapsed().as_secs_f64();
        thread.accepted = now;
        thread.ready = now + takes;
        thread.polls = 0;
        thread.found = None;
        self.pending.fetch_add(1, Ordering::Relaxed);
        let name = name(number);
        thread.due = self.due(&name, 0, now);
        Some((name, takes))
    }

    fn begin(&self) -> u64 {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut threads = self.shard(shard);
        threads.push(Thread::default());
        (threads.len() as u64 - 1) * SHARDS + shard
    }

    /// The newest messages, oldest first.
    pub fn read(&self, id: &str) -> Option<(Seen, Vec<Message>)> {
        let number = number(id)?;
        let mut shard = self.shard(number);
        let thread = shard.get_mut((number / SHARDS) as usize)?;
        let seen = self.look(id, thread);
        let mut messages = Vec::with_capacity(4);
        for (back, prompt) in [1, 0].into_iter().zip(&thread.prompts) {
            let (Some(run), Some(prompt)) = (thread.runs.checked_sub(back), prompt) else {
                continue;
            };
            messages.push(message(run, "user", prompt.to_string()));
            if back > 0 || seen.is_ready {
                let found = thread.found.filter(|_| back == 0);
                messages.push(message(run, "assistant", self.answer(number, run, found)));
            }
        }
        Some((seen, messages))
    }

    fn look(&self, id: &str, thread: &mut Thread) -> Seen {
        let now = self.began.elapsed().as_secs_f64();
        let is_ready = now >= thread.ready;
        let is_first = is_ready && thread.found.is_none();
        let late = thread.due.map_or(0.0, |due| now - due);
        thread.polls += 1;
        thread.due = if is_ready {
            None
        } else {
            self.due(id, thread.polls, now)
        };
        let mut found = None;
        if is_first {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            found = Some((
                thread.ready - thread.accepted,
                now - thread.ready,
                thread.polls,
            ));
            let at = SystemTime::now().duration_since(UNIX_EPOCH);
            thread.found = Some(Found {
                late,
                at: at.map_or(0, |at| at.as_micros()),
            });
        }
        Seen {
            is_ready,
            found,
            late,
        }
    }

    /// When the read is due that follows one, or the acceptance, at `now`.
    fn due(&self, id: &str, polls: u32, now: f64) -> Option<f64> {
        let expected = self.course.expected.as_ref()?;
        let runs = self.pending.load(Ordering::Relaxed);
        Some(now + expected.wait(id, polls, runs))
    }

    /// As many characters as is wanted; where runs take their time, led by how late the read came that
    /// found it, in microseconds, and when that was.
    fn answer(&self, number: u64, run: u32, found: Option<Found>) -> String {
        const WORDS: &str = "revenue grew in the north and fell in the south while orders held ";
        let mut text = match found {
            Some(found) if self.course.runs != Spread::AtOnce => {
                format!("[{:.0} {}] ", found.late * 1e6, found.at)
            }
            _ => String::new(),
        };
        text.push_str(&format!("answer {run} of {number}: "));
        while text.len() < self.course.answer {
            let left = self.course.answer - text.len();
            text.push_str(&WORDS[..left.min(WORDS.len())]);
        }
        if text.ends_with(' ') {
            text.pop();
            text.push('.');
        }
        text
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, Vec<Thread>> {
        lock(&self.shards[(number % SHARDS) as usize])
    }
}

fn message(run: u32, role: &'static str, value: String) -> Message {
    let is_answer = role == "assistant";
    let place = u64::from(run) * 2 + u64::from(is_answer);
    let r#type = "text";
    Message {
        id: format!("msg_{place}"),
        role,
        created_at: 1_790_000_000 + place,
        content: [Part {
            r#type,
            text: Text { value },
        }],
    }
}

fn name(number: u64) -> String {
    format!("th_{number}")
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("th_")?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
