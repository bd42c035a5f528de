//! One proxy, its disk and its upstream, from a seed: the proxy is killed and started again, and may
//! find an older disk, or one that fails.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::config::{self, Config, OnUnknown};
use chaturdata_proxy::conversation::Caller;
use chaturdata_proxy::conversation::resolve::Secrets;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::ids::Fingerprint;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::Error;
use chaturdata_proxy::run::live::{Foundation, Runner};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::signal::Signal;
use chaturdata_proxy::store::backend::Backend;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::caller::{Answered, Fate, Kind, Person};
use crate::check::check;
use crate::dice::Dice;
use crate::journal::{Content, Journal};
use crate::net::{Net, Sent, taken_wrong, wrong};
use crate::weather;

/// Read once: thousands of proxies are built.
static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);

/// What callers and the upstream have seen of it.
pub struct World {
    pub salt: Salt,
    pub sandbox: Sandbox,
    pub answered: RefCell<Vec<Answered>>,
    pub tips: RefCell<Vec<Fingerprint>>,
    pub fates: RefCell<BTreeMap<String, Fate>>,
    /// When a process ended, for rules that hold within one.
    pub deaths: RefCell<Vec<Instant>>,
    /// What was promised about restarts was suspended.
    pub excused: Cell<bool>,
    /// A conversation was told to be lost: with it go its responses.
    pub let_go: Cell<bool>,
    began: Instant,
    config: Config,
    pub sent: Arc<Mutex<Sent>>,
    process: watch::Sender<Option<Process>>,
    trace: RefCell<DefaultHasher>,
    /// Whether the disk may be gone back to an earlier state of it.
    copies: bool,
    dice: Dice,
}

/// One life of the proxy.
#[derive(Clone)]
pub struct Process {
    pub runner: Runner,
    pub dead: Signal,
    journal: Journal,
}

/// How a request ended for who sent it.
#[derive(Debug)]
pub enum Got {
    Answers(Vec<String>),
    Told(Error),
    /// It asks no more.
    Over,
    /// It hung up.
    Gone,
    /// The proxy died.
    Cut,
}

/// What came of a seed.
pub struct Outcome {
    /// Of everything that happened, in order.
    pub trace: u64,
    pub wrong: Option<String>,
    pub answers: usize,
    pub deaths: usize,
}

thread_local! {
    /// Everything that happens is printed.
    pub static TRACED: Cell<bool> = const { Cell::new(false) };
}

pub fn trace(line: impl FnOnce() -> String) {
    if TRACED.get() {
        println!("{:?} {}", Instant::now(), line());
    }
}

/// One seed, from the first request to the last late arrival.
pub fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _ = taken_wrong();
    runtime.block_on(async {
        let world = World::new(Dice::new(seed));
        world.live().await;
        check(&world);
        Outcome {
            trace: world.traced(),
            wrong: taken_wrong(),
            answers: world.answered.borrow().len(),
            deaths: world.deaths.borrow().len(),
        }
    })
}

impl World {
    fn new(dice: Dice) -> Self {
        let mut config = CONFIG.clone();
        config.conversations.transcript = 1 << 20;
        if dice.one_in(3) {
            config.run.on_unknown = OnUnknown::Tell;
        }
        if !dice.one_in(4) {
            config.pace.strategy = config::Strategy::Fixed;
        }
        config.structured.repairs = dice.below(3) as u32;
        if dice.one_in(6) {
            // Some of several answers wait for their places.
            config.run.max_active_per_key = 2;
        }
        let copies = dice.one_in(3);
        Self {
            salt: Salt::fixed(dice.secret()),
            sandbox: Sandbox::new(weather::script(&dice, copies)),
            copies,
            answered: RefCell::default(),
            tips: RefCell::default(),
            fates: RefCell::default(),
            deaths: RefCell::default(),
            excused: Cell::new(false),
            let_go: Cell::new(false),
            began: Instant::now(),
            config,
            sent: Arc::default(),
            process: watch::Sender::new(None),
            trace: RefCell::default(),
            dice,
        }
    }

    async fn live(&self) {
        self.start(Content::new(), Moment(1 << 40));
        let mut people: Vec<Person> = Vec::new();
        for number in 0..self.dice.among(1..5) {
            let key = *self.dice.pick(&["key-a", "key-a", "key-b"]);
            let name = format!("{number}");
            let kind = match self.dice.below(4) {
                0 => Kind::Named(format!("named {number}")),
                1 => Kind::Delta(format!("delta {number}")),
                _ => Kind::History,
            };
            people.push(Person {
                name,
                key,
                kind,
                dice: self.dice.fork(),
                path: Vec::new(),
                known: Vec::new(),
                is_plain: self.dice.one_in(2),
                ids: Vec::new(),
                told_id: None,
                call: None,
            });
        }
        let lives = people.into_iter().map(|person| person.live(self));
        let all = futures_util::future::join_all(lives);
        tokio::select! {
            biased;
            _ = all => {}
            () = self.kill() => {}
            () = self.settle() => {}
        }
        // Whatever is late arrives.
        sleep(Duration::from_mins(40)).await;
    }

    /// Kills the proxy again and again.
    async fn kill(&self) {
        let often = *self.dice.pick(&[0, 1, 3, 6]);
        let mut copy = None;
        for _ in 0..often {
            sleep(match self.dice.below(3) {
                0 => self.dice.millis(0..3_000),
                1 => self.dice.seconds(0..20),
                _ => self.dice.seconds(0..200),
            })
            .await;
            let Some(process) = self.process.send_replace(None) else {
                continue;
            };
            let mut content = process.journal.crash();
            process.dead.give();
            process.runner.shut_down().await;
            self.deaths.borrow_mut().push(Instant::now());
            trace(|| format!("DIED {}", self.excused.get()));
            if process.journal.is_degraded() {
                self.excuse();
            }
            if copy.is_none() && self.copies {
                copy = Some(content.clone());
            } else if self.dice.one_in(4)
                && let Some(copy) = &copy
            {
                content = copy.clone();
                self.excuse();
            }
            let down = self.dice.millis(0..20_000);
            sleep(down).await;
            self.check_tips(&content);
            self.start(content, Moment((1 << 40) + self.age()));
        }
        std::future::pending().await
    }

    /// Has the proxy forget what has ended, whatever is under way.
    async fn settle(&self) {
        loop {
            sleep(Duration::from_secs(3)).await;
            self.process().await.runner.settle().await;
        }
    }

    fn start(&self, content: Content, now: Moment) {
        let restored = Journal::restored(&content);
        trace(|| format!("STARTED with {:#?}", restored.turns));
        let newest = restored.newest().unwrap_or(now);
        let fails_after = self.dice.one_in(25).then(|| self.dice.below(20));
        let journal = Journal::new(content, fails_after, self.dice.fork());
        let net = Net {
            sandbox: self.sandbox.clone(),
            journal: journal.clone(),
            salt: self.salt.clone(),
            seen: self.sent.clone(),
            known: Mutex::default(),
        };
        let secrets = Secrets {
            salt: self.salt.clone(),
            ids: Salt::fixed(self.dice.secret()),
        };
        let foundation = Foundation {
            upstream: Arc::new(net),
            secrets,
            backend: Arc::new(journal.clone()),
            clock: Clock::at(newest.max(now)),
            restored,
            metrics: Arc::new(Metrics::new()),
        };
        let runner = Runner::new(&self.config, foundation);
        for key in ["key-a", "key-b"] {
            if self.dice.one_in(2) {
                runner.resume(&Caller::of_key(&self.salt, Secret::new(key)));
            }
        }
        self.process.send_replace(Some(Process {
            runner,
            dead: Signal::default(),
            journal,
        }));
    }

    /// The process that is up, or that will be.
    pub async fn process(&self) -> Process {
        let mut up = self.process.subscribe();
        let process = up.wait_for(Option::is_some).await.unwrap();
        process.clone().unwrap()
    }

    /// A turn that was acknowledged stays known.
    fn check_tips(&self, content: &Content) {
        if self.excused.get() {
            return;
        }
        let restored = Journal::restored(content);
        for tip in self.tips.borrow().iter() {
            let is_known = restored
                .branches
                .iter()
                .any(|branch| branch.tip == *tip || branch.passed.contains(tip));
            if !is_known {
                wrong(|| "an acknowledged turn is forgotten".to_owned());
            }
        }
    }

    fn excuse(&self) {
        self.excused.set(true);
        self.sent.lock().unwrap().excused = true;
    }

    fn age(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    pub fn note(&self, who: &str, got: &Got) {
        let line = format!("{} {who} {got:?}", self.age());
        line.hash(&mut *self.trace.borrow_mut());
        trace(|| line);
    }

    fn traced(&self) -> u64 {
        let mut trace = self.trace.borrow_mut();
        for (thread, text) in self.sandbox.posts() {
            (&*thread.0, text).hash(&mut *trace);
        }
        for call in self.sandbox.calls() {
            (call.at - self.began, call.thread).hash(&mut *trace);
        }
        trace.finish()
    }
}

impl World {
    pub fn min_gap(&self) -> Duration {
        self.config.pace.min_gap
    }
}
