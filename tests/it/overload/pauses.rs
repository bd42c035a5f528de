//! What the upstream asks of one call holds for every call of that key.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Read, Rule, Script};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::{asks, shared};
use crate::talk::{answers, busy, calls, said, seconds, soon, told};

#[tokio::test(start_paused = true)]
async fn after_a_pause_the_calls_that_waited_go_one_by_one() {
    let proxy = shared(|_| {});
    let slowed = Behaviour {
        reads: vec![Read::these(1, 1, busy(429, Some("20")))],
        ..soon("slow")
    };
    proxy.sandbox.set_script(Script {
        rules: vec![Rule {
            when: "slow".to_owned(),
            times: None,
            behaviour: slowed,
        }],
        ..Script::always(soon("hi"))
    });
    let start = Instant::now();
    let texts: Vec<String> = (0..100).map(|n| format!("question {n}")).collect();
    let others = async {
        sleep(seconds(3)).await;
        join_all(texts.iter().map(|text| asks(&proxy, "b", text))).await
    };

    let (slow, others) = tokio::join!(asks(&proxy, "a", "slow"), others);

    assert_eq!(said(&slow), "slow");
    assert!(others.iter().all(|reply| reply.status == 200));
    let posts = calls(&proxy, Kind::Post);
    let late: Vec<Instant> = posts[1..].iter().map(|post| post.at).collect();
    assert!(late.iter().all(|at| *at >= start + seconds(22)));
    let at_once = |from: Instant| {
        let soon = from + seconds(1);
        late.iter().filter(|at| (from..soon).contains(at)).count()
    };
    let most = late.iter().map(|at| at_once(*at)).max();
    assert!(most <= Some(51), "{most:?} in one second");
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_hold_up_the_key_s_others_though_no_time_is_told() {
    for (status, held) in [(429, true), (503, false)] {
        let proxy = shared(|setup| setup.config.pace.interval = seconds(7));
        let slowed = Behaviour {
            reads: vec![Read::these(1, 1, busy(status, None))],
            ..soon("slow")
        };
        proxy.sandbox.set_script(Script {
            rules: vec![Rule {
                when: "slow".to_owned(),
                times: None,
                behaviour: slowed,
            }],
            ..Script::always(soon("hi"))
        });
        let other = async {
            let is_read = || !calls(&proxy, Kind::Read).is_empty();
            while !is_read() {
                sleep(Duration::from_millis(100)).await;
            }
            asks(&proxy, "b", "hello").await
        };

        let (slow, other) = tokio::join!(asks(&proxy, "a", "slow"), other);

        assert_eq!((said(&slow), said(&other)), ("slow", "hi"));
        let read = calls(&proxy, Kind::Read)[0].at;
        let posted = calls(&proxy, Kind::Post)[1].at;
        let waited = posted - read;
        assert_eq!(waited >= seconds(7), held, "{status}: {waited:?}");
        assert!(waited < seconds(8), "{status}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_would_wait_for_long_is_told_at_once() {
    let proxy = shared(|_| {});
    proxy
        .sandbox
        .set_script(Script::always(answers(busy(429, Some("50")))));
    asks(&proxy, "a", "one").await;
    let start = Instant::now();

    let told_at_once = asks(&proxy, "b", "two").await;

    assert_eq!(
        told(&told_at_once),
        "429 rate_limit_error rate_limit_exceeded retry-after=50"
    );
    assert_eq!(start.elapsed(), seconds(0));
    assert_eq!(calls(&proxy, Kind::Post).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_put_off_holds_for_those_who_wait_already() {
    let proxy = shared(|_| {});
    let slowed = |read, wait| Behaviour {
        reads: vec![Read::these(read, 1, busy(429, Some(wait)))],
        ..Behaviour::says("slow", seconds(3))
    };
    proxy.sandbox.set_script(Script {
        rules: vec![Rule {
            when: "first".to_owned(),
            times: None,
            behaviour: slowed(1, "10"),
        }],
        ..Script::always(soon("hi"))
    });
    let start = Instant::now();
    let second = async {
        // Its POST is under way when the pause begins, and asks for a longer one.
        sleep(seconds(1)).await;
        let mut longer = answers(busy(503, Some("25")));
        longer.post.accept_after = seconds(4);
        proxy.sandbox.set_script(Script {
            rules: vec![Rule {
                when: "second".to_owned(),
                times: Some(1),
                behaviour: longer,
            }],
            ..Script::always(soon("hi"))
        });
        asks(&proxy, "b", "second").await
    };
    let third = async {
        sleep(seconds(4)).await;
        asks(&proxy, "c", "third").await
    };

    let (_, _, third) = tokio::join!(asks(&proxy, "a", "first"), second, third);

    assert_eq!(said(&third), "hi");
    let held = |at| at > start + seconds(6) && at < start + seconds(26);
    let calls = proxy.sandbox.calls();
    let during: Vec<_> = calls.iter().filter(|call| held(call.at)).collect();
    assert!(during.is_empty(), "{during:?}");
}
