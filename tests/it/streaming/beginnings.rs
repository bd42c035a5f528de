//! When a stream begins, and what becomes of errors before and after.

use std::sync::{Arc, Mutex};

use chaturdata_proxy::store::backend::{Backend, Flushed, UNHURRIED, Write};
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Lands, Post, Script};
use tokio::time::{Instant, sleep_until};

use super::Watched;
use crate::proxy::{Proxy, Reply, Setup, Streamed, prompt};
use crate::talk::{Talk, answers, busy, calls, first, posted, said, seconds, soon, told};

fn started(script: Script) -> Proxy {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(script);
    proxy
}

/// A POST that is answered so after so many seconds.
fn slowly(after: u64, answer: Answer) -> Behaviour {
    Behaviour {
        post: Post {
            accept_after: seconds(after),
            answer,
            ..Post::default()
        },
        ..soon("an answer")
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_within_a_second_of_the_acceptance() {
    for accepted in [0, 1, 3, 4] {
        let proxy = started(Script::always(slowly(accepted, Answer::Proper)));
        let started = Instant::now();

        let watched = Watched::says(&proxy, &Talk::new(&proxy), "hello").await;

        assert!(watched.begun - started < seconds(accepted + 1));
        let (at, role) = &watched.frames[0];
        assert_eq!(*at, watched.begun);
        assert!(
            role.contains(r#""delta":{"role":"assistant","content":""}"#),
            "{role}"
        );
        assert_eq!(watched.text(), "an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_after_five_seconds_even_if_nothing_is_decided() {
    let proxy = started(Script::always(slowly(25, Answer::Proper)));
    let started = Instant::now();

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "hello").await;

    assert_eq!(watched.begun - started, seconds(5));
    assert_eq!(watched.text(), "an answer");
    assert_eq!(watched.ended - started, seconds(27));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_post_within_five_seconds_is_a_proper_status() {
    for (answer, expected) in [
        (
            Answer::status(400),
            "400 invalid_request_error upstream_refused",
        ),
        (
            Answer::status(401),
            "401 authentication_error invalid_api_key",
        ),
        (
            Answer::status(403),
            "403 permission_error upstream_forbidden",
        ),
        (
            busy(429, Some("40")),
            "429 rate_limit_error rate_limit_exceeded retry-after=40",
        ),
        (
            Answer::Reset,
            "502 server_error upstream_outcome_unknown x-should-retry=false",
        ),
        (
            Answer::Certificate,
            "502 server_error upstream_unreachable retry-after=1",
        ),
    ] {
        let proxy = Proxy::passing_through();
        let talk = Talk::new(&proxy).header("authorization", "Bearer sk-a");
        proxy
            .sandbox
            .set_script(Script::always(slowly(4, answer.clone())));

        let reply: Reply = proxy.ask(talk.request("hello", true)).await;

        assert_eq!(told(&reply), expected, "{answer:?}");
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("x-conversation-decision"), "created");
        assert!(!reply.header("x-conversation-id").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_error_of_the_post_is_a_frame() {
    for (answer, code) in [
        (Answer::status(400), "upstream_refused"),
        (Answer::status(401), "invalid_api_key"),
        (Answer::status(403), "upstream_forbidden"),
        (busy(429, Some("40")), "rate_limit_exceeded"),
        (Answer::Reset, "upstream_outcome_unknown"),
        (Answer::Certificate, "upstream_unreachable"),
        (Answer::Hang, "upstream_outcome_unknown"),
    ] {
        let proxy = Proxy::passing_through();
        let talk = Talk::new(&proxy).header("authorization", "Bearer sk-a");
        proxy
            .sandbox
            .set_script(Script::always(slowly(6, answer.clone())));

        let watched = Watched::says(&proxy, &talk, "hello").await;

        assert_eq!(watched.error(), code, "{answer:?}");
        assert_eq!(watched.text(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_the_decision_known_when_it_begins() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let lost = Behaviour {
        post: Post {
            answer: Answer::Reset,
            lands: Some(Lands::Never),
            ..Post::default()
        },
        ..soon("never")
    };
    proxy.sandbox.set_script(first(1, lost, soon("second")));

    let response = proxy.send(talk.request("two", true)).await;
    let streamed = Streamed::of(response).await;

    // It was looked for over ten seconds, and asked once more on a new thread.
    assert_eq!(streamed.headers["x-conversation-decision"], "appended");
    assert_eq!(streamed.text(), "second");
    assert_eq!(posted(&proxy).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_busy_upstream_is_no_error_of_the_stream() {
    let proxy = started(first(2, answers(busy(429, Some("12"))), soon("at last")));

    let watched = Watched::says(&proxy, &Talk::new(&proxy), "hello").await;

    assert_eq!(watched.text(), "at last");
    assert_eq!(watched.error(), "");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_failed_before_its_stream_could_begin_is_a_proper_status() {
    let mut failed = Behaviour::ends("failed", None, seconds(1));
    failed.post.status = Some("failed".to_owned());
    let proxy = started(Script::always(failed));
    let talk = Talk::new(&proxy);

    let reply = proxy.ask(talk.request("hello", true)).await;

    assert_eq!(
        told(&reply),
        "502 server_error run_failed x-should-retry=false"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_told_again_needs_no_stream() {
    let proxy = started(Script::always(Behaviour::ends("failed", None, seconds(9))));
    let talk = Talk::new(&proxy);

    let watched = Watched::says(&proxy, &talk, "hello").await;
    let again = proxy.ask(talk.request("hello", true)).await;

    assert_eq!(watched.error(), "run_failed");
    assert_eq!(
        told(&again),
        "502 server_error run_failed x-should-retry=false"
    );
    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(posted(&proxy), [["hello"]]);
}

/// Takes ten seconds for the acceptance to outlive the process, and for whatever comes behind it.
#[derive(Debug, Default)]
struct SlowDisk(Mutex<(u32, Option<Instant>)>);

impl Backend for SlowDisk {
    fn queue(&self, _: Vec<Write>) {}

    fn flushed(&self) -> Flushed<'_> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        // The first is the intent.
        if state.0 == 2 {
            state.1 = Some(Instant::now() + seconds(10));
        }
        let until = state.1;
        Box::pin(async move {
            if let Some(until) = until {
                sleep_until(until).await;
            }
            Ok(())
        })
    }

    fn is_degraded(&self) -> bool {
        false
    }
}

fn on_a_slow_disk() -> Proxy {
    Proxy::start(Setup {
        state: Arc::new(SlowDisk::default()),
        ..Setup::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_holds_up_what_is_told_and_no_poll() {
    let proxy = on_a_slow_disk();
    let started = Instant::now();

    let watched = Watched::says(&proxy, &Talk::new(&proxy), prompt::GROWS).await;

    let deltas = watched.deltas();
    let (at, first) = &deltas[0];
    assert_eq!(first, "one");
    assert_eq!(watched.begun + seconds(*at), started + seconds(10));
    let reads = calls(&proxy, Kind::Read);
    assert!(reads[0].at < started + seconds(10), "{deltas:?}");
    assert_eq!(watched.text(), "one two");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_before_its_acceptance_is_written_down_is_told_afterwards() {
    for streams in [false, true] {
        let proxy = on_a_slow_disk();
        proxy.sandbox.set_script(Script::always(soon("an answer")));
        let started = Instant::now();

        let mut talk = Talk::new(&proxy);
        let text = if streams {
            talk.streams("hello").await.text()
        } else {
            said(&talk.says("hello").await).to_owned()
        };

        assert_eq!(text, "an answer");
        assert_eq!(started.elapsed(), UNHURRIED + seconds(10));
        assert_eq!(calls(&proxy, Kind::Read).len(), 1);
    }
}
