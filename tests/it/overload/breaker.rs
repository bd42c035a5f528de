//! An upstream that fails is spared: nothing new is posted, and one try per interval is made.

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Read, Rule, Script};
use tokio::time::{Instant, sleep};

use super::{asks, counted, shared};
use crate::proxy::{Proxy, Reply};
use crate::talk::{Talk, answers, calls, said, seconds, soon, told};

fn key<'a>(proxy: &'a Proxy, key: &str) -> Talk<'a> {
    Talk::new(proxy).header("authorization", &format!("Bearer {key}"))
}

fn failing() -> Script {
    Script::always(answers(Answer::status(500)))
}

/// Questions until the proxy posts no more of them.
async fn fails_until_open(proxy: &Proxy) -> Reply {
    for n in 0.. {
        assert!(n < 10, "everything is posted");
        let posts = calls(proxy, Kind::Post).len();
        let reply = asks(proxy, "a", &format!("question {n}")).await;
        if calls(proxy, Kind::Post).len() == posts {
            return reply;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_is_posted_nothing_new() {
    let proxy = shared(|_| {});
    proxy.sandbox.set_script(failing());

    let refused = fails_until_open(&proxy).await;
    let ready = proxy.get("/readyz").await;

    assert_eq!(
        told(&refused),
        "502 server_error upstream_unreachable retry-after=5"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 5);
    assert_eq!(
        (ready.status.as_u16(), ready.body["reason"].as_str()),
        (200, Some("upstream_failing"))
    );
    let opened = r#"breaker_changes_total{circuit="key",change="opened"}"#;
    assert_eq!(counted(&proxy, opened), 1);
    assert_eq!(counted(&proxy, "failing_keys"), 1);
}

#[tokio::test(start_paused = true)]
async fn where_no_thread_is_known_one_turn_per_interval_goes_through() {
    let proxy = shared(|_| {});
    proxy.sandbox.set_script(failing());
    fails_until_open(&proxy).await;
    let start = Instant::now();

    for n in 0..200 {
        sleep(std::time::Duration::from_millis(100)).await;
        asks(&proxy, "a", &format!("more {n}")).await;
    }

    let mut posts = calls(&proxy, Kind::Post);
    posts.retain(|post| post.at > start);
    assert_eq!(posts.len(), 4, "20 s, one each 5 s");
    assert!(calls(&proxy, Kind::Read).is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_a_thread_is_known_it_is_read_and_nothing_is_posted_until_that_goes_well() {
    let proxy = shared(|_| {});
    let mut talk = key(&proxy, "sk-a");
    let mended = Behaviour {
        reads: vec![Read::these(2, 3, Answer::status(500))],
        ..soon("first")
    };
    talk.is_met("one", mended).await;
    sleep(seconds(60)).await;
    proxy.sandbox.set_script(failing());
    fails_until_open(&proxy).await;
    proxy.sandbox.set_script(Script::always(soon("second")));
    let (start, posts) = (Instant::now(), calls(&proxy, Kind::Post).len());

    let mut replies = Vec::new();
    for _ in 0..21 {
        sleep(seconds(1)).await;
        replies.push(asks(&proxy, "b", "again").await.status.as_u16());
    }

    let reads = calls(&proxy, Kind::Read).into_iter();
    let tries: Vec<u64> = reads
        .filter(|read| read.at > start && read.thread == Some(proxy.sandbox.threads()[0].clone()))
        .map(|read| (read.at - start).as_secs())
        .collect();
    assert_eq!(tries[..4], [5, 10, 15, 20], "{replies:?}");
    assert_eq!(replies[..19], [502; 19]);
    assert_eq!(replies[19..], [200; 2]);
    assert_eq!(calls(&proxy, Kind::Post).len(), posts + 2);
    let closed = r#"breaker_changes_total{circuit="key",change="closed"}"#;
    assert_eq!(counted(&proxy, closed), 1);
    assert_eq!(proxy.get("/readyz").await.body["status"], "ok");
}

#[tokio::test(start_paused = true)]
async fn runs_under_way_are_polled_on_and_show_that_the_upstream_is_back() {
    let proxy = shared(|_| {});
    let under_way = Behaviour::says("worth the wait", seconds(20));
    proxy.sandbox.set_script(Script::always(under_way));
    let running = asks(&proxy, "a", "slow");
    let others = async {
        sleep(seconds(1)).await;
        proxy.sandbox.set_script(failing());
        let refused = asks_until_refused(&proxy).await;
        // The run's next poll goes well.
        sleep(seconds(3)).await;
        proxy.sandbox.set_script(Script::always(soon("hi")));
        (refused, asks(&proxy, "b", "hello").await)
    };

    let (slow, (refused, hello)) = tokio::join!(running, others);

    assert_eq!(said(&slow), "worth the wait");
    assert_eq!(refused.code(), "upstream_unreachable");
    assert_eq!(said(&hello), "hi");
}

async fn asks_until_refused(proxy: &Proxy) -> Reply {
    for n in 0.. {
        assert!(n < 8, "nothing is refused");
        let reply = asks(proxy, "b", &format!("question {n}")).await;
        if reply.code() == "upstream_unreachable" {
            return reply;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_one_key_stops_no_other() {
    let proxy = Proxy::passing_through();
    proxy.sandbox.set_script(failing());
    for n in 0..6 {
        key(&proxy, "sk-bad").says(&format!("question {n}")).await;
    }
    proxy.sandbox.set_script(Script::always(soon("hi")));

    let bad = key(&proxy, "sk-bad").says("hello").await;
    let good = key(&proxy, "sk-good").says("hello").await;

    assert_eq!(bad.code(), "upstream_unreachable");
    assert_eq!(said(&good), "hi");
    assert_eq!(proxy.get("/readyz").await.body["status"], "ok");
}

#[tokio::test(start_paused = true)]
async fn keys_that_do_not_come_back_make_room_for_those_that_fail_later() {
    let proxy = Proxy::passing_through();
    proxy.sandbox.set_script(Script {
        rules: vec![Rule {
            when: "bad".to_owned(),
            times: None,
            behaviour: answers(Answer::status(500)),
        }],
        ..Script::always(soon("hi"))
    });
    for n in 0..5 {
        key(&proxy, "sk-first").says(&format!("bad {n}")).await;
    }
    let failing_at_first = counted(&proxy, "failing_keys");

    for n in 0..1100 {
        // Something goes well at times: it does not fail for all.
        if n % 3 == 0 {
            assert_eq!(said(&key(&proxy, "sk-good").says("hello").await), "hi");
        }
        key(&proxy, &format!("sk-{n}")).says("bad").await;
    }
    let failing_then = counted(&proxy, "failing_keys");
    for n in 0..5 {
        key(&proxy, "sk-good").says("hello").await;
        key(&proxy, "sk-late").says(&format!("bad {n}")).await;
    }
    let late = key(&proxy, "sk-late").says("hello").await;

    assert_eq!((failing_at_first, failing_then), (1, 0));
    assert_eq!(late.code(), "upstream_unreachable");
    assert_eq!(counted(&proxy, "failing_keys"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_several_keys_fails_for_all() {
    let proxy = Proxy::passing_through();
    proxy.sandbox.set_script(failing());
    for n in 0..5 {
        key(&proxy, &format!("sk-{n}")).says("hello").await;
    }

    let newcomer = key(&proxy, "sk-new").says("hello").await;

    assert_eq!(newcomer.code(), "upstream_unreachable");
    assert_eq!(calls(&proxy, Kind::Post).len(), 5);
    assert_eq!(counted(&proxy, "upstream_failing"), 1);
    assert_eq!(
        proxy.get("/readyz").await.body["reason"],
        "upstream_failing"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upstream_without_a_connection_fails_for_all_at_once() {
    let proxy = Proxy::passing_through();
    proxy
        .sandbox
        .set_script(Script::always(answers(Answer::Unreachable)));
    let mut talk = key(&proxy, "sk-a");
    talk.says("one").await;
    talk.says("two").await;

    let newcomer = key(&proxy, "sk-new").says("hello").await;

    assert_eq!(
        told(&newcomer),
        "502 server_error upstream_unreachable retry-after=4"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_cannot_be_read_stops_nothing_else() {
    let proxy = shared(|setup| setup.config.run.limit = seconds(600));
    let unreadable = Behaviour {
        reads: vec![Read::these(1, 1000, Answer::Cut(10))],
        ..soon("never")
    };
    proxy.sandbox.set_script(Script::always(unreadable));
    let lost = asks(&proxy, "a", "hello");
    let other = async {
        sleep(seconds(300)).await;
        proxy.sandbox.set_script(Script::always(soon("hi")));
        asks(&proxy, "b", "hello").await
    };

    let (lost, other) = tokio::join!(lost, other);

    assert_eq!(lost.code(), "run_timeout");
    assert_eq!(said(&other), "hi");
    for circuit in ["key", "upstream"] {
        let opened = format!(r#"breaker_changes_total{{circuit="{circuit}",change="opened"}}"#);
        assert_eq!(counted(&proxy, &opened), 0, "{circuit}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_and_busy_answers_are_no_failures() {
    for status in [400, 401, 404, 429] {
        let proxy = shared(|_| {});
        proxy
            .sandbox
            .set_script(Script::always(answers(Answer::status(status))));
        for n in 0..10 {
            asks(&proxy, "a", &format!("question {n}")).await;
        }
        proxy.sandbox.set_script(Script::always(soon("hi")));

        assert_eq!(said(&asks(&proxy, "a", "hello").await), "hi", "{status}");
    }
}
