//! A caller that cannot wait any longer is told so, and collects its answer by asking again.

use std::time::Duration;

use axum::body::Body;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use http::Request;
use tokio::time::{Instant, sleep};

use super::{asked, asked_with, hang_up, posts, scripted, two_answers};
use crate::proxy::{Proxy, Reply, Streamed};
use crate::talk::{Talk, decision, said, seconds, told};

const TIMED_OUT: &str = "504 server_error run_timeout x-should-retry=true";

fn run_of(after: u64) -> Proxy {
    scripted(Script::always(Behaviour::says("an answer", seconds(after))))
}

/// The reply, and how long it took.
async fn timed(proxy: &Proxy, request: Request<Body>) -> (Reply, Duration) {
    let began = Instant::now();
    let reply = proxy.ask(request).await;
    (reply, began.elapsed())
}

/// Whether the error says to come again, at whatever time.
fn is_timeout(reply: &Reply) -> bool {
    told(reply).starts_with(TIMED_OUT)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_caller_s_own_ends_its_wait_and_not_the_run() {
    let proxy = run_of(20);
    let request = || asked_with(&proxy, "x-request-timeout", "5");

    let (late, waited) = timed(&proxy, request()).await;
    let (later, _) = timed(&proxy, request()).await;
    sleep(seconds(5)).await;
    let (collected, _) = timed(&proxy, asked(&proxy)).await;

    assert!(is_timeout(&late) && is_timeout(&later), "{}", told(&late));
    assert_eq!(waited.as_secs(), 5);
    assert_eq!((decision(&late), decision(&later)), ("created", "attached"));
    assert_eq!(said(&collected), "an answer");
    assert_eq!(decision(&collected), "attached");
    let handles = [&late, &later, &collected].map(|reply| reply.header("x-conversation-id"));
    assert!(!handles[0].is_empty() && handles.iter().all(|handle| *handle == handles[0]));
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_names_no_deadline_waits_for_590_seconds() {
    let proxy = run_of(700);

    let (late, waited) = timed(&proxy, asked(&proxy)).await;
    let (collected, _) = timed(&proxy, asked(&proxy)).await;

    assert!(is_timeout(&late), "{}", told(&late));
    assert_eq!(waited.as_secs(), 590);
    assert_eq!(said(&collected), "an answer");
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_sdk_is_answered_a_second_before_its_patience_ends() {
    let proxy = run_of(50);
    let attempt = |retry| {
        let talk = Talk::new(&proxy).header("x-stainless-read-timeout", "20");
        let talk = talk.header("x-stainless-retry-count", retry);
        timed(&proxy, talk.request("how much?", false))
    };

    let (first, waited) = attempt("0").await;
    let (second, _) = attempt("1").await;
    let (third, _) = attempt("2").await;

    assert!(is_timeout(&first) && is_timeout(&second));
    assert_eq!(waited.as_secs(), 19);
    assert_eq!((said(&third), decision(&third)), ("an answer", "attached"));
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn patience_of_under_two_seconds_is_not_heeded() {
    for (patience, heeded) in [("1", false), ("1.9", false), ("2", true), ("2.5", true)] {
        let proxy = run_of(20);

        let request = asked_with(&proxy, "x-stainless-read-timeout", patience);
        let (reply, _) = timed(&proxy, request).await;

        assert_eq!(is_timeout(&reply), heeded, "{patience}: {}", told(&reply));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_patience_that_its_caller_names() {
    let proxy = run_of(50);
    let mut talk = Talk::new(&proxy).header("x-stainless-read-timeout", "20");

    assert_eq!(talk.streams("how much?").await.text(), "an answer");
}

#[tokio::test(start_paused = true)]
async fn a_stream_past_its_deadline_ends_in_an_error_and_is_collected_by_the_next() {
    let proxy = run_of(50);
    let stream = || {
        let talk = Talk::new(&proxy).header("x-request-timeout", "20");
        talk.request("how much?", true)
    };

    let late = Streamed::of(proxy.send(stream()).await).await;
    sleep(seconds(20)).await;
    let again = Streamed::of(proxy.send(stream()).await).await;

    assert_eq!(late.error()["code"], "run_timeout");
    assert_eq!(again.text(), "an answer");
    assert_eq!(again.headers["x-conversation-decision"], "attached");
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_whose_caller_hung_up_keeps_its_place() {
    let proxy = run_of(20);
    let delta = |text: &str| {
        let talk = Talk::new(&proxy).header("x-conversation-id", "one");
        talk.request(text, false)
    };
    proxy.ask(delta("begin")).await;

    let (running, (), last) = tokio::join!(
        proxy.ask(delta("running")),
        async {
            sleep(seconds(1)).await;
            hang_up(&proxy, delta("left"), 5).await;
        },
        async {
            sleep(seconds(2)).await;
            proxy.ask(delta("last")).await
        }
    );
    let left = proxy.ask(delta("left")).await;

    assert_eq!((said(&running), said(&last)), ("an answer", "an answer"));
    assert_eq!((said(&left), decision(&left)), ("an answer", "attached"));
    let texts: Vec<String> = proxy
        .sandbox
        .posts()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["begin", "running", "left", "last"]);
    assert_eq!(proxy.sandbox.threads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_past_its_deadline_is_collected_by_the_next() {
    let proxy = run_of(20);
    let delta = |text: &str| {
        let talk = Talk::new(&proxy).header("x-conversation-id", "one");
        talk.header("x-request-timeout", "15").request(text, false)
    };
    let patient = Talk::new(&proxy).header("x-conversation-id", "one");
    proxy.ask(patient.request("begin", false)).await;

    let (_, queued) = tokio::join!(proxy.ask(patient.request("running", false)), async {
        sleep(seconds(1)).await;
        proxy.ask(delta("queued")).await
    });
    sleep(seconds(20)).await;
    let collected = proxy.ask(delta("queued")).await;

    assert!(is_timeout(&queued), "{}", told(&queued));
    assert_eq!(
        (said(&collected), decision(&collected)),
        ("an answer", "attached")
    );
    assert_eq!(posts(&proxy), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_frees_the_waiting_caller_s_count() {
    let proxy = two_answers(60);
    let waiting = || {
        let metrics = proxy.metrics();
        let line = metrics
            .lines()
            .find(|line| !line.starts_with('#') && line.contains("waiting_callers"));
        line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
    };

    tokio::join!(hang_up(&proxy, asked(&proxy), 10), async {
        sleep(seconds(5)).await;
        assert_eq!(waiting(), "1");
    });

    assert_eq!(waiting(), "0");
}
