//! Reads that tell nothing: none of them ends a run, and each is met with patience.

use std::time::Duration;

use chaturdata_proxy::upstream::ThreadId;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Canned, Read, Rule, Script};
use tokio::time::{Instant, sleep};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, busy, calls, decision, posted, said, seconds, soon, told};

fn canned(status: u16, body: &str) -> Answer {
    Answer::Canned(Canned {
        status,
        body: body.to_owned(),
        location: Some("https://elsewhere.test/".to_owned()),
        ..Canned::default()
    })
}

/// Every answer to a read that may pass.
fn passing() -> Vec<Answer> {
    vec![
        Answer::Reset,
        Answer::Hang,
        Answer::Cut(30),
        Answer::Cut(0),
        Answer::Endless,
        Answer::Unreachable,
        Answer::Certificate,
        Answer::html(502),
        Answer::html(200),
        Answer::status(500),
        Answer::status(400),
        Answer::status(409),
        Answer::status(408),
        Answer::status(418),
        busy(429, None),
        busy(429, Some("4")),
        busy(503, None),
        busy(503, Some("4")),
        canned(200, ""),
        canned(200, "null"),
        canned(200, r#"{"messages": "none"}"#),
        canned(302, ""),
        canned(307, r#"{"messages": [], "run_status": "failed"}"#),
        Answer::Without(vec!["run_status".to_owned()]),
        Answer::Without(vec!["messages".to_owned()]),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_passing_fault_of_any_poll_ends_a_run() {
    for fault in passing() {
        for poll in 1..=4 {
            let proxy = Proxy::start(Setup::default());
            let mut talk = Talk::new(&proxy);
            let stumbling = |text: &str| Behaviour {
                reads: vec![Read::these(poll, 2, fault.clone())],
                ..Behaviour::says(text, seconds(8))
            };

            let opening = talk.is_met("one", stumbling("first")).await;
            let next = talk.is_met("two", stumbling("second")).await;

            assert_eq!(said(&opening), "first", "{fault:?} at poll {poll}");
            assert_eq!(said(&next), "second", "{fault:?} at poll {poll}");
            assert_eq!(decision(&next), "appended");
            assert_eq!(posted(&proxy), [["one", "two"]]);
        }
    }
}

/// The waits between polls, in seconds, rounded down.
fn gaps(proxy: &Proxy, thread: &ThreadId) -> Vec<u64> {
    let reads = proxy.sandbox.reads(thread);
    let gaps = reads.windows(2).map(|pair| (pair[1] - pair[0]).as_secs());
    gaps.collect()
}

#[tokio::test(start_paused = true)]
async fn faults_in_a_row_are_met_with_ever_longer_waits() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "hello",
            Behaviour {
                reads: vec![Read::these(2, 7, Answer::html(502))],
                ..Behaviour::says("there", seconds(1000))
            },
        )
        .await;
    assert_eq!(reply.code(), "run_timeout");

    let gaps = gaps(&proxy, &proxy.sandbox.threads()[0]);
    // A fault doubles the wait, up to a minute and a little more; the first read that tells
    // something ends that.
    let least = [3, 3, 6, 12, 24, 48, 60, 60, 3, 3];
    for (gap, least) in gaps.iter().zip(least) {
        assert!((least..=least + least / 4).contains(gap), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_of_a_poll_is_obeyed_up_to_a_minute() {
    for (asked, waited) in [("1", 3), ("20", 20), ("60", 60), ("900", 60)] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);

        let reply = talk
            .is_met(
                "hello",
                Behaviour {
                    reads: vec![Read::these(1, 1, busy(429, Some(asked)))],
                    ..soon("there")
                },
            )
            .await;

        let gaps = gaps(&proxy, &proxy.sandbox.threads()[0]);
        assert_eq!(said(&reply), "there");
        assert_eq!(gaps.len(), 1);
        assert!(
            (waited..=waited + waited / 4).contains(&gaps[0]),
            "{gaps:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_slows_every_call_of_its_key_and_no_other() {
    let proxy = Proxy::passing_through();
    let slowed = Behaviour {
        reads: vec![Read::these(2, 1, busy(429, Some("40")))],
        ..Behaviour::says("slow", seconds(8))
    };
    proxy.sandbox.set_script(Script {
        rules: vec![Rule {
            when: "slow".to_owned(),
            times: None,
            behaviour: slowed,
        }],
        ..Script::always(Behaviour::says("hi", seconds(20)))
    });
    let start = Instant::now();
    let talk = |key: &str| Talk::new(&proxy).header("authorization", &format!("Bearer {key}"));
    let (mut first, mut second, mut other) = (talk("sk-a"), talk("sk-a"), talk("sk-b"));
    let later = async {
        sleep(seconds(20)).await;
        talk("sk-a").says("later").await
    };

    let replies = tokio::join!(
        first.says("slow"),
        second.says("fast"),
        other.says("other"),
        later
    );

    assert_eq!((said(&replies.0), said(&replies.1)), ("slow", "hi"));
    assert_eq!((said(&replies.2), said(&replies.3)), ("hi", "hi"));
    let during = |key: &str| {
        let calls = proxy.sandbox.calls();
        // The other run of the key is polled a moment later, and not to the millisecond.
        let held = |at| at > start + Duration::from_millis(5100) && at < start + seconds(45);
        let of_key = calls
            .iter()
            .filter(|call| call.key.as_ref().unwrap().expose() == key);
        of_key.filter(|call| held(call.at)).count()
    };
    assert_eq!(during("sk-a"), 0, "neither polls nor POSTs");
    assert_eq!(during("sk-b"), 5);
    assert!(start.elapsed() >= seconds(45));
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_cannot_be_seen_yet_is_read_once_more() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    for answer in ["first", "second"] {
        let reply = talk
            .is_met(
                "hello",
                Behaviour {
                    reads: vec![Read::these(1, 1, Answer::status(404))],
                    ..soon(answer)
                },
            )
            .await;

        assert_eq!(said(&reply), answer);
        assert_ne!(decision(&reply), "replayed");
    }
    let gaps = gaps(&proxy, &proxy.sandbox.threads()[0]);
    assert_eq!(gaps[0], 2, "after the least gap");
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_is_lost_in_a_run_is_replayed_once() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let lost = Rule {
        when: "two".to_owned(),
        times: Some(1),
        behaviour: Behaviour {
            reads: vec![Read::these(2, 1000, Answer::status(404))],
            ..Behaviour::says("never", Duration::from_mins(1))
        },
    };
    proxy.sandbox.set_script(Script {
        rules: vec![lost],
        ..Script::always(soon("second"))
    });

    let reply = talk.says("two").await;
    let next = talk.is_met("three", soon("third")).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "replayed"));
    assert_eq!((said(&next), decision(&next)), ("third", "appended"));
    assert_eq!(
        posted(&proxy)[1],
        [
            "Earlier conversation:\n\nUser: one\n\nAssistant: first\n\n---\n\ntwo",
            "three"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_thread_that_is_slow_to_be_seen_is_waited_for() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "one",
            Behaviour {
                reads: vec![Read::these(1, 6, Answer::status(404))],
                ..soon("first")
            },
        )
        .await;

    assert_eq!((said(&reply), decision(&reply)), ("first", "created"));
    assert_eq!(posted(&proxy), [["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_new_thread_that_is_lost_in_its_run_is_begun_once_more() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let lost = Rule {
        when: String::new(),
        times: Some(1),
        behaviour: Behaviour {
            reads: vec![Read::these(1, 1000, Answer::status(404))],
            ..soon("never")
        },
    };
    proxy.sandbox.set_script(Script {
        rules: vec![lost],
        ..Script::always(soon("first"))
    });

    let reply = talk.says("one").await;

    assert_eq!((said(&reply), decision(&reply)), ("first", "replayed"));
    assert_eq!(posted(&proxy), [["one"], ["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_threads_are_lost_again_and_again_is_told() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk
        .is_met(
            "one",
            Behaviour {
                reads: vec![Read::these(1, 1000, Answer::status(404))],
                ..soon("never")
            },
        )
        .await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_error x-should-retry=false"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 2);
}
