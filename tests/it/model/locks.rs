//! The small locks under many schedules: who waits gets its turn, in order, whoever else gives up.
//!
//! What waits in a task is polled in a random order, and only once it was woken, so that a wake-up that
//! is lost is seen; what locks a thread for a moment is tried by threads that start at the same time.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use chaturdata_proxy::config::Config;
use chaturdata_proxy::conversation::resolve::{Continuation, Hashes, Resolved, Secrets};
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::conversation::{Decision, Turn};
use chaturdata_proxy::ids::Fingerprint;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::live::{Foundation, Runner};
use chaturdata_proxy::run::{Error, RunEvent};
use chaturdata_proxy::store::State;
use chaturdata_proxy::upstream::ThreadId;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::expected::{Ask, Follows};
use super::paused;
use super::resolver::{resolver, turn, unbounded};

/// Requests at the same time.
const CROWD: u32 = 6;

fn schedules(count: u64) -> std::ops::Range<u64> {
    match std::env::var_os("FULL") {
        Some(_) => 0..20 * count,
        None => 0..count,
    }
}

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Whether a task was woken since it was last polled.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    parent: Mutex<Option<Waker>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.flag.store(true, Ordering::Relaxed);
        if let Some(parent) = self.parent.lock().unwrap().take() {
            parent.wake();
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that are polled in a random order once they are woken; one in so many steps drops one.
struct Shuffled {
    tasks: Vec<(Task, Arc<Woken>)>,
    dice: Dice,
    drops: Option<usize>,
}

impl Shuffled {
    fn new(seed: u64, drops: Option<usize>) -> Self {
        Self {
            tasks: Vec::new(),
            dice: Dice(seed),
            drops,
        }
    }

    fn add(&mut self, task: impl Future<Output = ()> + 'static) {
        let woken = Arc::new(Woken::default());
        woken.flag.store(true, Ordering::Relaxed);
        self.tasks.push((Box::pin(task), woken));
    }
}

impl Future for Shuffled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        while !this.tasks.is_empty() {
            if let Some(one_in) = this.drops
                && this.dice.below(one_in) == 0
            {
                let gives_up = this.dice.below(this.tasks.len());
                drop(this.tasks.swap_remove(gives_up));
                continue;
            }
            let mut ready = Vec::new();
            for (at, (_, woken)) in this.tasks.iter().enumerate() {
                *woken.parent.lock().unwrap() = Some(context.waker().clone());
                if woken.flag.load(Ordering::Relaxed) {
                    ready.push(at);
                }
            }
            if ready.is_empty() {
                return Poll::Pending;
            }
            let at = ready[this.dice.below(ready.len())];
            let (task, woken) = &mut this.tasks[at];
            woken.flag.store(false, Ordering::Relaxed);
            let waker = Waker::from(woken.clone());
            if task
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                drop(this.tasks.swap_remove(at));
            }
        }
        Poll::Ready(())
    }
}

/// Lets the others go on, some times.
async fn pauses(times: usize) {
    for _ in 0..times {
        let mut paused = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

fn ask(name: Option<&str>, history: Vec<u32>) -> Ask {
    Ask {
        tenant: 0,
        user: None,
        narrow: None,
        name: name.map(str::to_owned),
        history,
        instructions: 0,
        base: Follows::Nothing,
    }
}

fn hashes(mark: u8) -> Hashes {
    Hashes {
        roll: Fingerprint([mark; 16]),
        history: Vec::new(),
        prompt: vec![[1; 32]],
        instructions: [0; 32],
        form: None,
    }
}

#[test]
fn whoever_waits_for_a_conversation_gets_it_in_the_order_of_asking() {
    let runtime = paused();
    let _entered = runtime.enter();
    let salt = Salt::random().unwrap();
    let delta = turn(&ask(Some("talk"), Vec::new()));
    for seed in schedules(10_000) {
        let store = unbounded();
        let resolver = resolver(&salt, &store, CROWD);
        let mut tasks = Shuffled::new(seed, seed.is_multiple_of(2).then_some(12));
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..CROWD {
            let resolved = resolver.resolve(&delta, &hashes(0)).unwrap();
            let order = order.clone();
            let busy = tasks.dice.below(4);
            tasks.add(async move {
                let held = match resolved.continuation {
                    Continuation::Wait(waiting) => waiting.held().await,
                    Continuation::Begin(held, _) => held,
                    other => panic!("{other:?}"),
                };
                order.borrow_mut().push(number);
                pauses(busy).await;
                assert_eq!(order.borrow().last(), Some(&number), "two at once");
                drop(held);
            });
        }
        let all = tasks.drops.is_none();

        let ended = Pin::new(&mut tasks).poll(&mut Context::from_waker(Waker::noop()));

        assert!(ended.is_ready(), "seed {seed}: a wake-up was lost");
        let order = order.take();
        assert!(order.is_sorted(), "seed {seed}: {order:?}");
        assert!(
            !all || order.len() == CROWD as usize,
            "seed {seed}: {order:?}"
        );
        let resolved = resolver.resolve(&delta, &hashes(0)).unwrap();
        let Continuation::Wait(waiting) = resolved.continuation else {
            panic!("seed {seed}: the conversation is forgotten");
        };
        assert_eq!(
            waiting.slot.waiting.load(Ordering::Relaxed),
            1,
            "seed {seed}"
        );
        assert!(waiting.slot.is_leased(), "seed {seed}: it was free at once");
    }
}

/// Three threads do the same at the same time, over and over; what each of them got, by round.
fn together<T: Send>(rounds: usize, act: impl Fn(usize) -> T + Sync) -> Vec<Vec<T>> {
    const THREADS: usize = 3;
    let start = Barrier::new(THREADS);
    let results: Vec<Vec<T>> = std::thread::scope(|scope| {
        let one = || {
            let round = |round| {
                start.wait();
                act(round)
            };
            (0..rounds).map(round).collect::<Vec<T>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut results: Vec<_> = results.into_iter().map(Vec::into_iter).collect();
    (0..rounds)
        .map(|_| results.iter_mut().filter_map(Iterator::next).collect())
        .collect()
}

fn rounds() -> usize {
    usize::try_from(schedules(1_500).end).unwrap()
}

#[test]
fn of_equal_histories_at_once_one_continues_the_thread_and_the_others_fork() {
    let rounds = rounds();
    let (salt, store) = (Salt::random().unwrap(), unbounded());
    let resolver = resolver(&salt, &store, CROWD);
    let history = turn(&ask(None, vec![1, 2]));
    let marks = |round: usize| {
        let mut mark = [9; 16];
        mark[..8].copy_from_slice(&round.to_be_bytes());
        Hashes {
            roll: Fingerprint(mark),
            ..hashes(0)
        }
    };
    for round in 0..rounds {
        let opening = turn(&ask(None, Vec::new()));
        let Continuation::Begin(held, _) =
            resolver.resolve(&opening, &hashes(0)).unwrap().continuation
        else {
            panic!("an opening begins a thread");
        };
        store.change(&held.slot, |branch| {
            branch.thread = Some(ThreadId("th".into()));
            branch.state = State::Open;
        });
        store.advance(&held.slot, None, |branch| {
            branch.advance(marks(round).roll, &[[1; 32]])
        });
    }

    let results = together(rounds, |round| {
        resolver.resolve(&history, &marks(round)).unwrap()
    });

    for results in results {
        assert_eq!(count(&results, Decision::Appended), 1);
        assert_eq!(count(&results, Decision::Forked), 2);
    }
}

#[test]
fn of_first_requests_under_a_new_name_one_begins_and_the_others_wait() {
    let (salt, store) = (Salt::random().unwrap(), unbounded());
    let resolver = resolver(&salt, &store, CROWD);

    let results = together(rounds(), |round| {
        let first = turn(&ask(Some(&format!("talk-{round}")), Vec::new()));
        resolver.resolve(&first, &hashes(0)).unwrap()
    });

    for results in &results {
        let slots: Vec<_> = results
            .iter()
            .map(|resolved| match &resolved.continuation {
                Continuation::Begin(held, _) => held.slot.id,
                Continuation::Wait(waiting) => waiting.slot.id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(count(results, Decision::Created), 1);
        assert_eq!(count(results, Decision::Appended), 2);
        assert!(slots.iter().all(|slot| *slot == slots[0]));
    }
    assert_eq!(store.len(), results.len());
}

fn count(results: &[Resolved], decision: Decision) -> usize {
    results
        .iter()
        .filter(|resolved| resolved.decision == decision)
        .count()
}

fn runner(sandbox: &Sandbox) -> Runner {
    let salt = Salt::random().unwrap();
    let secrets = Secrets {
        ids: salt.clone(),
        salt,
    };
    let upstream = Arc::new(sandbox.clone());
    let foundation = Foundation::in_memory(upstream, secrets, Arc::new(Metrics::new()));
    let mut config = Config::default();
    // Every round has a run.
    config.run.max_active = 1_000_000;
    config.run.max_active_per_key = 1_000_000;
    Runner::new(&config, foundation)
}

fn says_soon() -> Sandbox {
    Sandbox::new(Script::always(Behaviour::says("x", Duration::from_secs(4))))
}

#[test]
fn a_key_that_comes_from_everywhere_at_once_has_one_run() {
    // So many messages the sandbox remembers.
    let rounds = rounds().min(10_000);
    let sandbox = says_soon();
    let runtime = paused();
    let runner = {
        let _entered = runtime.enter();
        runner(&sandbox)
    };

    let results = together(rounds, |round| {
        let _entered = runtime.enter();
        let keyed = keyed(round);
        let subscription = runner.start(keyed).unwrap();
        (subscription.place(), subscription)
    });

    for results in &results {
        let attached = results
            .iter()
            .filter(|(place, _)| place.decision == Decision::Attached);
        assert_eq!(attached.count(), 2);
        let conversation = &results[0].0.conversation;
        assert!(
            results
                .iter()
                .all(|(place, _)| place.conversation == *conversation)
        );
    }
    runtime.block_on(async {
        for (_, mut subscription) in results.into_iter().flatten() {
            subscription.answer().await.unwrap();
        }
    });
    assert_eq!(sandbox.posts().len(), rounds);
}

/// A request that differs from the others' by its key alone.
fn keyed(round: usize) -> Turn {
    let mut keyed = turn(&ask(None, Vec::new()));
    keyed.repeat.idempotency_key = Some(format!("key-{round}"));
    keyed
}

#[test]
fn a_stop_ends_every_turn_whenever_it_comes() {
    let runtime = paused();
    for seed in schedules(500) {
        runtime.block_on(async {
            let runner = runner(&says_soon());
            let ended = Rc::new(RefCell::new(0));
            let mut tasks = Shuffled::new(seed, None);
            for number in 0..CROWD {
                let (runner, ended) = (runner.clone(), ended.clone());
                let busy = tasks.dice.below(12);
                let name = (number % 2 == 0).then_some("talk");
                tasks.add(async move {
                    pauses(busy).await;
                    turn_ends(&runner, turn(&ask(name, Vec::new())), busy).await;
                    *ended.borrow_mut() += 1;
                });
            }
            let busy = tasks.dice.below(12);
            tasks.add(async move {
                pauses(busy).await;
                runner.shut_down().await;
            });

            let done = timeout(Duration::from_secs(3600), tasks).await;

            assert!(done.is_ok(), "seed {seed}: somebody waits for ever");
            assert_eq!(ended.take(), CROWD);
        });
    }
}

async fn turn_ends(runner: &Runner, turn: Turn, busy: usize) {
    let mut subscription = match runner.start(turn) {
        Ok(subscription) => subscription,
        Err(refused) => {
            assert_eq!(refused.error, Error::TooManyWaiting);
            return;
        }
    };
    for _ in 0..busy {
        yield_now().await;
    }
    loop {
        match subscription.next().await {
            RunEvent::Accepted | RunEvent::Text(_) => {}
            RunEvent::Completed(answer) => break assert_eq!(answer.text, "x"),
            RunEvent::Failed(error) => break assert_eq!(error, Error::ShuttingDown),
        }
    }
}
