//! A pace that is learned: as many polls as a fixed interval makes, where runs are likely to end.

use std::time::Duration;

use chaturdata_proxy::config::{Config, Strategy};
use chaturdata_proxy::ids::Tenant;
use chaturdata_proxy::run::pace::estimate::Bracket;
use chaturdata_proxy::run::pace::{Pace, Rhythm};
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::Behaviour;
use tokio::time::{Instant, advance};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, calls};

fn paced(strategy: Strategy) -> Proxy {
    let mut setup = Setup::default();
    setup.config.pace.strategy = strategy;
    Proxy::start(setup)
}

/// What a run that takes this long cost its caller and the upstream.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    lag: Duration,
    polls: usize,
}

async fn cost(proxy: &Proxy, takes: Duration) -> Cost {
    let reads = || calls(proxy, Kind::Read);
    let (start, before) = (Instant::now(), reads().len());

    let reply = Talk::new(proxy)
        .is_met("how many?", Behaviour::says("four", takes))
        .await;

    assert_eq!(reply.status, 200);
    let gaps: Vec<Duration> = reads()[before..]
        .windows(2)
        .map(|pair| pair[1].at - pair[0].at)
        .collect();
    assert!(
        gaps.iter().all(|gap| *gap >= Duration::from_secs(2)),
        "{gaps:?}"
    );
    Cost {
        lag: start.elapsed() - takes,
        polls: reads().len() - before,
    }
}

/// Poll efficiency of the last fifty of so many runs, which take about eight seconds.
async fn efficiency(proxy: &Proxy, runs: usize) -> f64 {
    const SPREAD: [f64; 10] = [0.1, -1.5, 0.6, -0.3, 1.7, -0.9, 0.3, 1.0, -0.5, -0.1];
    let (mut time, mut lag, mut polls) = (0.0, 0.0, 0.0);
    for (run, spread) in (0..runs).zip(SPREAD.iter().cycle()) {
        let takes = Duration::from_secs_f64(8.0 * (0.25 * spread).exp());
        let cost = cost(proxy, takes).await;
        if run + 50 >= runs {
            time += takes.as_secs_f64() / 50.0;
            lag += cost.lag.as_secs_f64() / 50.0;
            polls += cost.polls as f64 / 50.0;
        }
    }
    time / 2.0 / (lag * (polls - 0.5))
}

#[tokio::test(start_paused = true)]
async fn answers_are_found_sooner_and_with_fewer_polls_once_their_key_s_runs_are_known() {
    let fixed = efficiency(&paced(Strategy::Fixed), 50).await;
    let learned = efficiency(&paced(Strategy::Learned), 150).await;

    assert!(learned > 1.3 * fixed, "{learned:.2} against {fixed:.2}");
}

#[tokio::test(start_paused = true)]
async fn what_one_key_teaches_is_not_held_against_another() {
    let pace = Pace::new(&Config::default().pace);
    let [known, other] = [1, 2].map(|key| pace.rhythm(&Tenant([key; 32])));
    let expected = |rhythm: &Rhythm<'_>, so_far| {
        let remaining = rhythm.remaining(Duration::from_secs(so_far)).unwrap();
        remaining.as_secs_f64()
    };
    let cold = expected(&other, 0);

    for _ in 0..100 {
        advance(Duration::from_secs(1)).await;
        let bracket = Bracket {
            after: 29.0,
            by: 31.0,
        };
        if let Some(learner) = known.saw(bracket) {
            learner.renew();
        }
    }

    assert!(
        (24.0..36.0).contains(&expected(&known, 0)),
        "{}",
        expected(&known, 0)
    );
    assert!(
        (3.0..16.0).contains(&expected(&known, 20)),
        "{}",
        expected(&known, 20)
    );
    assert!((12.0..14.0).contains(&cold), "the prior's mean: {cold}");
    assert_eq!(expected(&other, 0), cold);
}
