//! What ends a run, and what does not: a refused key, the run's limit, a caller that goes.

use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Read, Rule, Script};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::{Proxy, Setup};
use crate::talk::{
    Talk, answers, busy, calls, decision, message, posted, said, seconds, soon, told,
};

/// A run whose second poll finds the key refused.
fn locked_out(status: u16) -> Behaviour {
    Behaviour {
        reads: vec![Read {
            from: 2,
            count: None,
            answer: Answer::status(status),
        }],
        ..Behaviour::says("never", Duration::from_mins(1))
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_during_a_run_ends_it_at_once() {
    for (status, expected) in [
        (401, "401 authentication_error invalid_api_key"),
        (403, "403 permission_error upstream_forbidden"),
    ] {
        let proxy = Proxy::passing_through();
        let mut talk = Talk::new(&proxy).header("authorization", "Bearer sk-a");
        let started = Instant::now();

        let reply = talk.is_met("hello", locked_out(status)).await;
        let ended = started.elapsed();
        sleep(Duration::from_hours(1)).await;

        assert_eq!(told(&reply), expected);
        assert_eq!(ended, seconds(5));
        assert_eq!(calls(&proxy, Kind::Read).len(), 2, "it is not tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxys_key_that_is_refused_during_a_run_is_the_proxys_matter() {
    let proxy = Proxy::holding_a_key();
    let mut talk = Talk::new(&proxy).header("authorization", "Bearer sk-caller");

    let reply = talk.is_met("hello", locked_out(401)).await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_key_refused x-should-retry=false"
    );
}

#[tokio::test(start_paused = true)]
async fn one_key_that_is_refused_ends_no_run_of_another() {
    let proxy = Proxy::passing_through();
    proxy.sandbox.set_script(Script {
        rules: vec![Rule {
            when: "locked".to_owned(),
            times: None,
            behaviour: locked_out(401),
        }],
        ..Script::always(Behaviour::says("hi", seconds(20)))
    });
    let talk = |key: &str| Talk::new(&proxy).header("authorization", &format!("Bearer {key}"));
    let (mut locked, mut other) = (talk("sk-a"), talk("sk-b"));

    let (locked, other) = tokio::join!(locked.says("locked out"), other.says("hello"));

    assert_eq!(locked.code(), "invalid_api_key");
    assert_eq!(said(&other), "hi");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_given_up_at_its_limit_and_its_thread_with_it() {
    let mut setup = Setup::default();
    setup.config.run.limit = Duration::from_mins(12);
    let proxy = Proxy::start(setup);
    let mut talk = Talk::new(&proxy);
    let started = Instant::now();
    talk.is_met("one", soon("first")).await;

    let late = talk
        .is_met("two", Behaviour::says("too late", Duration::from_mins(13)))
        .await;
    let expired = talk.says("two").await;
    let ended = started.elapsed();
    let reads = calls(&proxy, Kind::Read).len();
    sleep(Duration::from_hours(1)).await;
    let next = talk.is_met("three", soon("third")).await;

    assert_eq!(late.code(), "run_timeout");
    assert_eq!(
        told(&expired),
        "504 server_error run_expired x-should-retry=false"
    );
    assert_eq!(ended, seconds(2) + Duration::from_mins(12));
    // The first turn's, the last turn's, and one every three seconds.
    assert_eq!(calls(&proxy, Kind::Read).len(), reads + 1);
    assert_eq!(reads, 1 + 240);
    assert_eq!((said(&next), decision(&next)), ("third", "replayed"));
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_whatever_the_upstream_asks_for() {
    let mut setup = Setup::default();
    setup.config.run.limit = Duration::from_mins(12);
    let proxy = Proxy::start(setup);
    let mut talk = Talk::new(&proxy);
    let started = Instant::now();
    let busy = Behaviour {
        reads: vec![Read {
            from: 1,
            count: None,
            answer: busy(429, Some("50")),
        }],
        ..soon("never read")
    };

    talk.is_met("one", busy).await;
    let expired = talk.says("one").await;
    let ended = started.elapsed();
    let last = calls(&proxy, Kind::Read).pop().unwrap().at;

    assert_eq!(
        told(&expired),
        "504 server_error run_expired x-should-retry=false"
    );
    assert_eq!(ended, Duration::from_mins(12));
    assert!(last - started <= Duration::from_mins(12));
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_the_key_holds_no_run_beyond_its_limit() {
    let mut setup = Setup::default();
    setup.config.run.limit = Duration::from_mins(12);
    let proxy = Proxy::start(setup);
    proxy.sandbox.set_script(Script {
        rules: vec![Rule {
            when: "other".to_owned(),
            times: None,
            behaviour: answers(busy(429, Some("50"))),
        }],
        ..Script::always(Behaviour::says("never", Duration::from_hours(1)))
    });
    let started = Instant::now();
    let (mut slow, mut other) = (Talk::new(&proxy), Talk::new(&proxy));

    let late = async {
        sleep(seconds(718)).await;
        other.says("other").await
    };
    let expiring = async {
        slow.says("hello").await;
        (slow.says("hello").await, started.elapsed())
    };
    let (busy, (expired, ended)) = tokio::join!(late, expiring);
    sleep(Duration::from_mins(5)).await;

    assert_eq!(busy.code(), "rate_limit_exceeded");
    assert_eq!(expired.code(), "run_expired");
    assert_eq!(ended, Duration::from_mins(12));
    let last = calls(&proxy, Kind::Read).pop().unwrap().at;
    assert_eq!(last - started, seconds(716));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_told_with_the_handle_and_the_answer_is_collected_by_asking_again() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-request-timeout", "20");
    let started = Instant::now();

    let late = talk
        .is_met("hello", Behaviour::says("worth the wait", seconds(30)))
        .await;
    let ended = started.elapsed();
    let again = talk.says("hello").await;
    let next = talk.is_met("more", soon("more of it")).await;

    assert_eq!(
        told(&late),
        "504 server_error run_timeout x-should-retry=true retry-after=1"
    );
    assert_eq!(ended, seconds(20));
    assert!(message(&late).contains("again"), "{}", message(&late));
    assert_eq!(
        (said(&again), decision(&again)),
        ("worth the wait", "attached")
    );
    assert_eq!(
        again.header("x-conversation-id"),
        late.header("x-conversation-id")
    );
    assert_eq!((said(&next), decision(&next)), ("more of it", "appended"));
    assert_eq!(posted(&proxy), [["hello", "more"]]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_names_its_patience_is_told_a_second_before_it_ends() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy).header("x-stainless-read-timeout", "20");
    let started = Instant::now();

    let late = talk
        .is_met("hello", Behaviour::says("worth the wait", seconds(30)))
        .await;
    let ended = started.elapsed();
    let again = talk.says("hello").await;

    assert_eq!(
        told(&late),
        "504 server_error run_timeout x-should-retry=true retry-after=1"
    );
    assert_eq!(ended, seconds(19));
    assert_eq!(
        (said(&again), decision(&again)),
        ("worth the wait", "attached")
    );
    assert_eq!(posted(&proxy), [["hello"]]);
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_does_not_end_the_run() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says("worth it", seconds(30))));

    let left = timeout(seconds(6), talk.says("hello")).await.is_err();
    sleep(Duration::from_mins(5)).await;
    let reads = calls(&proxy, Kind::Read).len();
    let asked = Instant::now();
    let again = talk.says("hello").await;

    assert!(left);
    assert_eq!(
        reads, 7,
        "polled to its end at half the pace, and not beyond"
    );
    assert_eq!((said(&again), decision(&again)), ("worth it", "attached"));
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(calls(&proxy, Kind::Read).len(), reads);
    assert_eq!(posted(&proxy), [["hello"]]);
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_before_the_post_is_answered_loses_nothing() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    let mut slow = soon("worth it");
    slow.post.accept_after = seconds(4);
    slow.post.answer_after = seconds(4);
    proxy.sandbox.set_script(Script::always(slow));

    for patience in [1, 2, 2] {
        let left = timeout(seconds(patience), talk.says("hello")).await;
        assert!(left.is_err());
    }
    let reply = talk.says("hello").await;

    assert_eq!((said(&reply), decision(&reply)), ("worth it", "attached"));
    assert_eq!(posted(&proxy), [["hello"]]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_waits_for_is_read_half_as_often() {
    let proxy = Proxy::start(Setup::default());
    let run = Behaviour::says("late", seconds(100));
    proxy.sandbox.set_script(Script::always(run));

    let left = timeout(seconds(12), Talk::new(&proxy).says("hello")).await;
    let left_at = Instant::now();
    sleep(seconds(60)).await;
    let back = Instant::now();
    let reply = Talk::new(&proxy).says("hello").await;

    assert!(left.is_err());
    assert_eq!((said(&reply), decision(&reply)), ("late", "attached"));
    let between = |from: Instant, to: Instant| {
        let reads = calls(&proxy, Kind::Read).into_iter();
        reads.filter(|read| (from..to).contains(&read.at)).count()
    };
    // Every 6 s, and every 3 s.
    assert_eq!(between(left_at, back), 10);
    assert_eq!(between(back, back + seconds(24)), 8);
}
