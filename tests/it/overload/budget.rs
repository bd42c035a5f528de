//! So many reads per second with one upstream key, shared between tenants, and herds that drift apart.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use chaturdata_proxy::config::Config;
use chaturdata_proxy::config::{Rate, Strategy};
use chaturdata_proxy::conversation::Caller;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::calls::Calls;
use chaturdata_proxy::run::pace::{Beat, Pace};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use chaturdata_proxy::upstream::{
    Call, NewMessage, PostError, Posted, ReadError, Thread, ThreadId, Upstream,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{asks, shared};
use crate::talk::{calls, seconds};

/// Seeds that are tried; more by `PACE_SEEDS`.
static SEEDS: LazyLock<u64> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "how much to test is no setting")]
    let wanted = env::var("PACE_SEEDS");
    wanted.map_or(1_000, |wanted| wanted.parse().unwrap())
});

/// Runs of one tenant that floods, and of nine that have one each.
const HOG: usize = 200;
const OTHERS: usize = 9;

/// Numbers that look random, the same for each seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// An upstream whose runs never end, and which is faster than the sandbox: a thousand seeds want
/// half a million calls.
#[derive(Debug, Default)]
struct Plain {
    seed: u64,
    threads: AtomicUsize,
    reads: Mutex<Vec<(String, Instant)>>,
}

impl Upstream for Plain {
    fn post<'a>(&'a self, _: &'a Secret, _: &'a NewMessage) -> Call<'a, Result<Posted, PostError>> {
        let number = self.threads.fetch_add(1, Ordering::Relaxed);
        let thread = ThreadId(format!("th_{}_{number}", self.seed).into());
        Box::pin(async {
            Ok(Posted {
                thread,
                status: None,
                failure: None,
            })
        })
    }

    fn read<'a>(
        &'a self,
        _: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        let read = (thread.to_string(), Instant::now());
        self.reads.lock().unwrap().push(read);
        Box::pin(async { Ok(Thread::default()) })
    }
}

/// What one seed came to.
struct Seen {
    /// Reads of each thread, by tenant.
    reads: BTreeMap<usize, Vec<Vec<Instant>>>,
    all: Vec<Instant>,
}

async fn polled(seed: u64, per_second: f64, lasting: Duration) -> Seen {
    let mut numbers = Numbers(seed.wrapping_mul(2_654_435_761).wrapping_add(99));
    let mut config = Config::default();
    config.pace.max_polls_per_second = Rate::new(per_second);
    config.pace.strategy = Strategy::Fixed;
    let upstream = Arc::new(Plain {
        seed,
        ..Plain::default()
    });
    let (salt, metrics) = (Salt::random().unwrap(), Arc::new(Metrics::new()));
    let proxied = Calls::new(&config, upstream.clone(), metrics, salt.clone());
    let pace = Pace::new(&config.pace);
    let end = Instant::now() + lasting;
    let mut runs = Vec::new();
    for run in 0..HOG + OTHERS {
        let tenant = run.saturating_sub(HOG - 1);
        let caller = Caller {
            tenant: salt.tenant_named(&tenant.to_string()),
            account: salt.tenant_of_key("sk-upstream"),
            key: Secret::new("sk-upstream"),
        };
        let begins = Instant::now() + Duration::from_millis(numbers.below(3000));
        let (proxied, pace) = (&proxied, &pace);
        runs.push(async move {
            sleep_until(begins).await;
            let thread = begun(proxied, &caller).await;
            let _followed = proxied.follow();
            let mut polls = 0;
            let polling = async {
                let rhythm = pace.rhythm(&caller.account);
                let accepted = Instant::now();
                loop {
                    let beat = Beat {
                        so_far: accepted.elapsed(),
                        polls,
                        runs: proxied.followed(),
                    };
                    sleep(rhythm.wait(&thread, beat)).await;
                    proxied.read(&caller, &thread).await.unwrap();
                    polls += 1;
                }
            };
            let _: Result<(), _> = timeout_at(end, polling).await;
            (tenant, thread)
        });
    }
    let runs = join_all(runs).await;
    let mut by_thread: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    let mut all = Vec::new();
    for (thread, at) in upstream.reads.lock().unwrap().drain(..) {
        by_thread.entry(thread).or_default().push(at);
        all.push(at);
    }
    let mut reads: BTreeMap<usize, Vec<Vec<Instant>>> = BTreeMap::new();
    for (tenant, thread) in runs {
        let of_thread = by_thread.remove(&*thread.0).unwrap_or_default();
        reads.entry(tenant).or_default().push(of_thread);
    }
    Seen { reads, all }
}

async fn begun(calls: &Calls, caller: &Caller) -> ThreadId {
    let message = NewMessage {
        thread: None,
        text: "hello".to_owned(),
    };
    calls.post(caller, &message).await.unwrap().thread
}

/// The most within one second, from any of them on.
fn most_per_second(reads: &[Instant]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in reads.iter().enumerate() {
        while *at - reads[first] >= seconds(1) {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

async fn is_fair(seed: u64, per_second: f64) {
    let lasting = seconds(30);
    let seen = polled(seed, per_second, lasting).await;

    let most = most_per_second(&seen.all) as f64;
    assert!(most <= per_second + 1.0, "seed {seed}: {most} in a second");
    let min_gap = Config::default().pace.min_gap;
    for reads in seen.reads.values().flatten() {
        let gaps = reads.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.into_iter().all(|gap| gap >= min_gap), "seed {seed}");
    }
    // What each would get at most, and what it may get if all asked for as much.
    let demand = (lasting.as_secs_f64() - 3.0) / 3.3;
    let even = per_second * (lasting.as_secs_f64() - 6.0) / (OTHERS + 1) as f64;
    for (tenant, runs) in &seen.reads {
        let got: usize = runs.iter().map(Vec::len).sum();
        let fair = even.min(demand * runs.len() as f64);
        assert!(
            got as f64 >= 0.8 * fair,
            "seed {seed}: tenant {tenant} got {got} of {fair:.1}"
        );
    }
    // A tenant's own runs are served in turn.
    let hog: Vec<usize> = seen.reads[&0].iter().map(Vec::len).collect();
    let (least, most) = (hog.iter().min(), hog.iter().max());
    assert!(most.unwrap() - least.unwrap() <= 2, "seed {seed}: {hog:?}");
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_kept_and_shared_fairly() {
    for seed in 0..*SEEDS {
        // From far too little to nearly enough.
        is_fair(seed, [2.0, 4.0, 8.0][(seed % 3) as usize]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_for_whole_turns_too() {
    let proxy = shared(|setup| {
        setup.config.pace.max_polls_per_second = Rate::new(2.0);
    });
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says("hi", seconds(5))));
    let texts: Vec<String> = (0..40).map(|n| format!("question {n}")).collect();
    let start = Instant::now();

    let hog = join_all(texts.iter().map(|text| asks(&proxy, "a", text)));
    let other = async {
        sleep(seconds(1)).await;
        let reply = asks(&proxy, "b", "hello").await;
        (reply, start.elapsed())
    };
    let (hog, (other, after)) = tokio::join!(hog, other);

    assert!(hog.iter().all(|reply| reply.status == 200));
    assert_eq!(other.status, 200);
    assert!(after < seconds(9), "{after:?}, beside 40 runs of another");
    let reads: Vec<Instant> = calls(&proxy, Kind::Read)
        .iter()
        .map(|read| read.at)
        .collect();
    assert!(most_per_second(&reads) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_herd_drifts_apart_and_keeps_the_least_gap() {
    let proxy = shared(|setup| {
        setup.config.server.max_waiting_per_key = 1000;
        setup.config.run.max_active_per_key = 1000;
        setup.config.upstream.max_connections = 1000;
    });
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says("hi", seconds(20))));
    let texts: Vec<String> = (0..500).map(|n| format!("question {n}")).collect();

    let replies = join_all(texts.iter().map(|text| asks(&proxy, "a", text))).await;

    assert!(replies.iter().all(|reply| reply.status == 200));
    let mut together: BTreeMap<Instant, usize> = BTreeMap::new();
    for read in calls(&proxy, Kind::Read) {
        *together.entry(read.at).or_default() += 1;
    }
    let most = together.values().max().unwrap();
    assert!(*most <= 25, "{most} of 500 are polled at one moment");
    for thread in proxy.sandbox.threads() {
        let reads = proxy.sandbox.reads(&thread);
        let gaps = reads.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            gaps.into_iter()
                .all(|gap| (3.0..3.3 + 0.01).contains(&gap.as_secs_f64()))
        );
    }
}
