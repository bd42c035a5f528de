//! The machine sleeps under a proxy: what waited meanwhile is looked at once it is awake.

use std::cell::Cell;

use chaturdata_proxy::clock::Moment;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use futures_util::future::join_all;
use tokio::time::{Duration, Instant, sleep};

use crate::proxy::{Proxy, Reply, Setup};
use crate::talk::{Talk, calls, said, seconds};

/// A clock on the wall that goes on while ours stands.
struct Wall {
    start: Instant,
    ahead: Cell<Duration>,
}

impl Wall {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            ahead: Cell::default(),
        }
    }

    fn now(&self) -> Moment {
        Moment(1_000_000).later(self.start.elapsed() + self.ahead.get())
    }

    fn jump(&self, by: Duration) {
        self.ahead.set(self.ahead.get() + by);
    }
}

/// Polls every minute, so that what is read sooner is read for a reason.
fn patient() -> Proxy {
    let mut setup = Setup::default();
    setup.config.pace.interval = seconds(60);
    let proxy = Proxy::start(setup);
    let run = Behaviour::says("there", seconds(4));
    proxy.sandbox.set_script(Script::always(run));
    proxy
}

/// Milliseconds from the start to each read of a run, on a wall that jumps at `jumps`.
async fn reads(jumps: &[(u64, Duration)]) -> Vec<u64> {
    let proxy = patient();
    let wall = Wall::new();
    let mut talk = Talk::new(&proxy);
    let jumping = async {
        for (at, by) in jumps {
            sleep((wall.start + Duration::from_millis(*at)).duration_since(Instant::now())).await;
            wall.jump(*by);
        }
        std::future::pending().await
    };
    let reply = tokio::select! {
        reply = talk.says("hello") => reply,
        never = proxy.runner.watch_clocks(|| wall.now()) => match never {},
        () = jumping => unreachable!(),
    };
    assert_eq!(said(&reply), "there");
    let reads = calls(&proxy, Kind::Read).into_iter();
    reads
        .map(|read| (read.at - wall.start).as_millis() as u64)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_is_read_at_once_when_the_machine_wakes() {
    let awake = reads(&[]).await;
    let asleep = reads(&[(20_000, Duration::from_hours(8))]).await;

    assert_eq!(awake, [2000, 62_000]);
    assert_eq!(asleep.len(), 2);
    assert!((20_000..23_100).contains(&asleep[1]), "{asleep:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_put_right_or_back_wakes_nobody() {
    let right = reads(&[(20_000, seconds(29)), (30_000, seconds(29))]).await;

    assert_eq!(right, [2000, 62_000]);
}

/// What fifty callers are answered on a wall that jumps so often.
async fn herd(proxy: &Proxy, wall: &Wall, every: Duration, jumps: u32) -> Vec<Reply> {
    let asked = (0..50).map(|n| async move {
        let mut talk = Talk::new(proxy);
        talk.says(&format!("hello {n}")).await
    });
    let jumping = async {
        for _ in 0..jumps {
            sleep(every).await;
            wall.jump(Duration::from_hours(1));
        }
        std::future::pending().await
    };
    tokio::select! {
        replies = join_all(asked) => replies,
        never = proxy.runner.watch_clocks(|| wall.now()) => match never {},
        () = jumping => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_ever_again_brings_no_polls_too_close() {
    let proxy = patient();

    herd(&proxy, &Wall::new(), Duration::from_millis(100), 200).await;

    for thread in proxy.sandbox.threads() {
        let reads = proxy.sandbox.reads(&thread);
        let gaps = reads.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().count() > 0);
        assert!(gaps.into_iter().all(|gap| gap >= seconds(2)), "{reads:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_that_wakes_is_spread() {
    let proxy = patient();
    let wall = Wall::new();

    let replies = herd(&proxy, &wall, seconds(30), 1).await;

    assert!(replies.iter().all(|reply| said(reply) == "there"));
    let mut woken: Vec<u128> = calls(&proxy, Kind::Read)
        .iter()
        .map(|read| (read.at - wall.start).as_millis())
        .filter(|at| *at > 30_000)
        .collect();
    assert_eq!(woken.len(), 50);
    woken.dedup();
    let spread = woken[woken.len() - 1] - woken[0];
    assert!(woken.len() > 40, "{woken:?}");
    assert!((1000..3000).contains(&spread), "{woken:?}");
}
