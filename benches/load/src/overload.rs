//! Ten times the load that fits, by callers that retry as SDKs do: what fits must still get through.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::caller::{Ask, Pool, Reply};
use crate::program::{Proxy, Start};
use crate::tally::{Times, Verdict, megabytes};

/// Every answer after a third of a second: what fits is bounded by the seats and not by the cores,
/// which the proxy shares with the sandbox and with this.
const SCRIPT: &str = r#"
behaviour = { reply = ["an answer"], reply_after = "300ms", post = { accept_after = "5ms" } }
"#;

const SEATS: usize = 50;
const QUEUE: Duration = Duration::from_millis(250);
const KEYS: u64 = 8;
const TIMES: f64 = 10.0;

const SETTINGS: [(&str, &str); 7] = [
    ("pace.interval", "100ms"),
    ("pace.min_gap", "50ms"),
    ("server.max_waiting", "50"),
    ("server.max_waiting_per_key", "25"),
    ("upstream.queue_timeout", "250ms"),
    ("conversations.max", "10000"),
    ("run.max_answers", "1000"),
];

/// What a stretch of load came to.
#[derive(Default)]
struct Seen {
    good: Cell<usize>,
    calls: Cell<usize>,
    other: RefCell<Vec<(u16, String)>>,
    admitted: RefCell<Times>,
    shed: RefCell<Times>,
    /// How late this program itself was: no time that it saw is more exact.
    lag: RefCell<Times>,
}

pub async fn run(binary: &Path, is_full: bool, verdict: &mut Verdict) -> io::Result<()> {
    let mut proxy = Proxy::start(&Start {
        binary,
        script: SCRIPT,
        settings: &SETTINGS,
        group: None,
    })
    .await?;
    LocalSet::new()
        .run_until(stages(&mut proxy, is_full, verdict))
        .await
}

async fn stages(proxy: &mut Proxy, is_full: bool, verdict: &mut Verdict) -> io::Result<()> {
    let pool = proxy.pool.clone();
    let stretch = Duration::from_secs(if is_full { 20 } else { 6 });
    flood(&pool, 20.0, Duration::from_secs(2)).await;
    let unloaded = flood(&pool, 20.0, stretch).await;
    let peak = filled(&pool, stretch).await;
    let long = Duration::from_secs(if is_full { 180 } else { 20 });
    // The first callers all open connections, as they would not by and by.
    flood(&pool, peak * TIMES, Duration::from_secs(2)).await;
    let before = proxy.held()?.seconds;
    let over = flood(&pool, peak * TIMES, long).await;
    let held = proxy.held()?;
    let recovered = recovery(&pool, peak / 2.0).await;

    let goodput = over.goodput(long);
    println!("peak {peak:.0}/s, at {TIMES} times that {goodput:.0}/s");
    let offered = over.calls.get() as f64 / long.as_secs_f64();
    println!(
        "attempts {offered:.0}/s, of which shed {}",
        over.shed.borrow().count()
    );
    let cores = (held.seconds - before) / long.as_secs_f64();
    println!("the proxy kept {cores:.2} cores busy");
    println!(
        "memory {:.0} MB at most, descriptors {}",
        megabytes(held.peak),
        held.descriptors
    );
    let usual = unloaded.admitted.borrow().percentile(99);
    let p99 = over.admitted.borrow().percentile(99);
    let shed = over.shed.borrow().percentile(99);
    let lag = over.lag.borrow().percentile(99);
    println!("unloaded p99 {usual:.1?}; this program was late by {lag:.1?} (p99)");
    verdict.claim(proxy.is_alive(), "the proxy lives");
    verdict.claim(goodput >= 0.9 * peak, "goodput is at least 90% of the peak");
    verdict.within("p99 of what is let in", p99, usual * 3 / 2 + QUEUE);
    verdict.within("p99 of what is shed", shed, Duration::from_millis(50));
    verdict.claim(held.peak <= 128 << 20, "memory stays under 128 MB");
    verdict.within("recovery", recovered, Duration::from_secs(5));
    let other = over.other.borrow();
    let odd: Vec<_> = other.iter().take(3).collect();
    verdict.claim(
        other.is_empty(),
        &format!("nothing but answers and refusals: {odd:?}"),
    );
    Ok(())
}

/// Arrivals at this rate whatever becomes of them, each with its retries.
async fn flood(pool: &Pool, rate: f64, lasting: Duration) -> Rc<Seen> {
    let seen = Rc::new(Seen::default());
    let mut callers = JoinSet::new();
    let mut tick = interval(Duration::from_millis(5));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut arrived = 0;
    while began.elapsed() < lasting {
        let due = tick.tick().await;
        seen.lag.borrow_mut().add(due.elapsed());
        let owed = (began.elapsed().as_secs_f64() * rate) as u64;
        while arrived < owed {
            arrived += 1;
            let (pool, seen) = (pool.clone(), seen.clone());
            callers.spawn_local(async move {
                let ask = ask(arrived);
                pool.call(&ask, |reply| seen.note(reply)).await;
            });
        }
        while callers.try_join_next().is_some() {}
    }
    // Whoever still waits or is to come back has gone: the load is over.
    callers.abort_all();
    while callers.join_next().await.is_some() {}
    seen
}

/// As many callers as there are seats, each with the next question at once: answers per second.
async fn filled(pool: &Pool, lasting: Duration) -> f64 {
    let seen = Rc::new(Seen::default());
    let mut callers = JoinSet::new();
    for caller in 0..SEATS as u64 {
        let (pool, seen) = (pool.clone(), seen.clone());
        callers.spawn_local(async move {
            loop {
                let reply = pool.attempt(&ask(caller), 0).await;
                seen.note(&reply);
                if reply.status != 200 {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        });
    }
    sleep(Duration::from_secs(1)).await;
    let before = seen.good.get();
    let began = Instant::now();
    sleep(lasting).await;
    let rate = (seen.good.get() - before) as f64 / began.elapsed().as_secs_f64();
    callers.abort_all();
    while callers.join_next().await.is_some() {}
    rate
}

/// How long after the flood half of what fits gets through again.
async fn recovery(pool: &Pool, rate: f64) -> Duration {
    let began = Instant::now();
    let patience = Duration::from_secs(30);
    let recovering = async {
        loop {
            let second = flood(pool, rate, Duration::from_secs(1)).await;
            if second.shed.borrow().count() == 0 && second.good.get() > 0 {
                return began.elapsed().saturating_sub(Duration::from_secs(1));
            }
        }
    };
    timeout(patience, recovering).await.unwrap_or(patience)
}

fn ask(number: u64) -> Ask {
    Ask {
        key: format!("sk-load-{}", number % KEYS),
        prompt: format!("question {number}"),
        stream: false,
    }
}

impl Seen {
    fn note(&self, reply: &Reply) {
        self.calls.set(self.calls.get() + 1);
        match reply.status {
            200 => {
                self.good.set(self.good.get() + 1);
                self.admitted.borrow_mut().add(reply.took);
            }
            429 | 503 => self.shed.borrow_mut().add(reply.took),
            status => self.other.borrow_mut().push((status, reply.text.clone())),
        }
    }

    fn goodput(&self, lasting: Duration) -> f64 {
        self.good.get() as f64 / lasting.as_secs_f64()
    }
}
