//! Conversations for a long while, with hang-ups and faults: nothing may grow, and all comes back.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, timeout};

use crate::caller::{Ask, Pool};
use crate::program::{Proxy, Start};
use crate::tally::{Verdict, megabytes};

const SCRIPT: &str = r#"
behaviour = { reply = ["an answer"], reply_after = "20ms" }

[[rules]]
when = "fail"
behaviour = { ending = "failed", failure = { words = "no such table" }, reply_after = "20ms" }

[[rules]]
when = "reset"
behaviour = { reply = ["an answer"], reply_after = "20ms", reads = [{ count = 2, answer = "reset" }] }

[[rules]]
when = "busy"
behaviour = { reply = ["an answer"], post = { answer = { canned = { status = 503, retry_after = "0.1" } } } }
"#;

/// Small tables, so that they are full, and level, soon.
const SETTINGS: [(&str, &str); 6] = [
    ("pace.interval", "30ms"),
    ("pace.min_gap", "10ms"),
    ("conversations.max", "2000"),
    ("run.max_answers", "2000"),
    ("run.keep_answers", "1s"),
    ("server.max_waiting", "200"),
];

const CALLERS: u64 = 60;
const KEYS: u64 = 6;

/// Bytes of resident memory that 100,000 turns may add.
const LEAK: f64 = 1_000_000.0;

pub async fn run(binary: &Path, is_full: bool, verdict: &mut Verdict) -> io::Result<()> {
    let mut proxy = Proxy::start(&Start {
        binary,
        script: SCRIPT,
        settings: &SETTINGS,
        group: None,
    })
    .await?;
    LocalSet::new()
        .run_until(soak(&mut proxy, is_full, verdict))
        .await
}

async fn soak(proxy: &mut Proxy, is_full: bool, verdict: &mut Verdict) -> io::Result<()> {
    let lasting = Duration::from_secs(if is_full { 20 * 60 } else { 60 });
    let idle = at_rest(proxy, None).await?;
    let turns = Rc::new(Cell::new(0_u64));
    let statuses = Rc::new(RefCell::new(std::collections::BTreeMap::new()));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (pool, turns, statuses) = (proxy.pool.clone(), turns.clone(), statuses.clone());
        callers.spawn_local(async move {
            let mut number = caller;
            loop {
                number += CALLERS;
                turns.set(turns.get() + 1);
                let status = turn(&pool, number).await;
                *statuses.borrow_mut().entry(status).or_insert(0_u64) += 1;
            }
        });
    }
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < lasting {
        sleep(lasting / 60).await;
        samples.push((turns.get() as f64, proxy.held()?.resident as f64));
    }
    callers.abort_all();
    while callers.join_next().await.is_some() {}
    proxy.pool.forget();
    let after = at_rest(proxy, Some(&idle)).await?;

    println!("{} turns: {:?}", turns.get(), statuses.borrow());
    let warm = samples.split_off(samples.len() / 3);
    let slope = slope(&warm) * 100_000.0;
    println!(
        "memory grows by {:.2} MB per 100,000 turns",
        slope / 1_000_000.0
    );
    println!("at rest before {idle:?} and after {after:?}");
    let peak = megabytes(proxy.held()?.peak);
    println!("memory {peak:.0} MB at most");
    verdict.claim(proxy.is_alive(), "the proxy lives");
    // Over a minute the allocator's own ups and downs weigh more than a leak of that size.
    let growth = slope
        * (warm.last().map_or(0.0, |last| last.0) - warm.first().map_or(0.0, |first| first.0))
        / 100_000.0;
    verdict.claim(
        slope < LEAK || !is_full && growth < 2.0 * LEAK,
        "memory is level",
    );
    verdict.claim(after.tasks <= idle.tasks, "no task is left");
    verdict.claim(
        after.descriptors <= idle.descriptors + 2,
        "no descriptor is left",
    );
    verdict.claim(after.runs == 0.0, "no run, and so no lease, is left");
    verdict.claim(after.waiting == 0.0, "no caller is left");
    let errors = statuses
        .borrow()
        .keys()
        .any(|status| ![0, 200, 429, 502, 503].contains(status));
    verdict.claim(!errors, "nothing but what the script asks for is answered");
    Ok(())
}

/// One turn; every ninth caller hangs up at some moment. 0 stands for that.
async fn turn(pool: &Pool, number: u64) -> u16 {
    let what = match number % 50 {
        7 => "fail",
        13 => "reset",
        21 => "busy",
        _ => "answer",
    };
    let ask = Ask {
        key: format!("sk-soak-{}", number % KEYS),
        prompt: format!("{what} {number}"),
        stream: number.is_multiple_of(3),
    };
    if number.is_multiple_of(9) {
        let patience = Duration::from_millis(number % 60);
        return match timeout(patience, pool.attempt(&ask, 0)).await {
            Ok(reply) => reply.status,
            Err(_) => 0,
        };
    }
    pool.attempt(&ask, 0).await.status
}

/// What is held when nothing is going on.
#[derive(Debug)]
struct Rest {
    tasks: f64,
    runs: f64,
    waiting: f64,
    descriptors: usize,
}

/// What is held when all has ended by itself: at the latest when connections to the upstream that
/// idle are given up, and sooner where it is no more than at the start.
async fn at_rest(proxy: &Proxy, start: Option<&Rest>) -> io::Result<Rest> {
    let until = Instant::now() + Duration::from_secs(if start.is_some() { 30 } else { 1 });
    loop {
        sleep(Duration::from_millis(500)).await;
        let rest = Rest {
            tasks: proxy.counts("tasks").await?,
            runs: proxy.counts("runs_active").await?,
            waiting: proxy.counts("waiting_callers").await?,
            descriptors: proxy.held()?.descriptors,
        };
        let is_as_before = start.is_some_and(|start| {
            rest.runs == 0.0 && rest.tasks <= start.tasks && rest.descriptors <= start.descriptors
        });
        if is_as_before || Instant::now() > until {
            return Ok(rest);
        }
    }
}

/// Least squares: bytes per turn.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let both: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    let square: f64 = samples.iter().map(|s| (s.0 - x) * (s.0 - x)).sum();
    both / square
}
