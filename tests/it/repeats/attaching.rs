//! A caller that hung up gets its answer by asking again; everybody else gets a turn of their own.

use axum::body::Body;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Post, Script};
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use tokio::time::sleep;

use super::{asked, asked_with, hang_up, posts, retried, scripted, two_answers};
use crate::proxy::{Proxy, Setup, Streamed, request};
use crate::talk::{Talk, decision, first, said, seconds, shows};

/// A minute.
const MINUTE: u64 = 60;

/// A proxy that keeps so many answers.
fn at_most(answers: usize) -> Proxy {
    let mut setup = Setup::default();
    setup.config.run.max_answers = answers;
    Proxy::start(setup)
}

/// Asks, and expects this answer by this decision.
async fn expect(proxy: &Proxy, request: Request<Body>, text: &str, by: &str) {
    let reply = proxy.ask(request).await;
    assert_eq!((said(&reply), decision(&reply)), (text, by));
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_before_the_upstream_accepts_leaves_the_run_to_the_next_request() {
    let slow = Behaviour {
        post: Post {
            accept_after: seconds(10),
            ..Post::default()
        },
        ..Behaviour::says("late", seconds(5))
    };
    let proxy = scripted(Script::always(slow));

    hang_up(&proxy, asked(&proxy), 2).await;

    expect(&proxy, asked(&proxy), "late", "attached").await;
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_amid_the_run_leaves_it_to_the_next_request() {
    for again in [asked, retried] {
        let proxy = two_answers(20);

        hang_up(&proxy, asked(&proxy), 10).await;

        expect(&proxy, again(&proxy), "first answer", "attached").await;
        assert_eq!(posts(&proxy), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ended_after_the_hang_up_is_collected() {
    let proxy = two_answers(20);

    hang_up(&proxy, asked(&proxy), 10).await;
    sleep(seconds(5 * MINUTE)).await;

    expect(&proxy, asked(&proxy), "first answer", "attached").await;
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_ready_but_never_read_is_still_owed() {
    let proxy = two_answers(1);

    drop(proxy.send(asked(&proxy)).await);

    expect(&proxy, asked(&proxy), "first answer", "attached").await;
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hung_up_caller_finds_its_run_behind_many_live_twins() {
    let proxy = two_answers(60);
    let twins = async {
        sleep(seconds(1)).await;
        join_all((0..60).map(|_| proxy.ask(asked(&proxy)))).await
    };
    let first = async {
        hang_up(&proxy, asked(&proxy), 10).await;
        proxy.ask(asked(&proxy)).await
    };

    let (twins, first) = tokio::join!(twins, first);

    assert_eq!(
        (said(&first), decision(&first)),
        ("first answer", "attached")
    );
    assert!(twins.iter().all(|twin| said(twin) == "second answer"));
    assert_eq!(posts(&proxy), 61);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_again_and_again_gets_its_answer_in_the_end() {
    let proxy = two_answers(60);

    for again in [asked, retried, asked] {
        hang_up(&proxy, again(&proxy), 10).await;
    }

    expect(&proxy, asked(&proxy), "first answer", "attached").await;
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_owed_for_fifteen_minutes_after_its_run() {
    for (minutes, by) in [(14, "attached"), (16, "created")] {
        // The hang-up comes long before the end.
        let proxy = two_answers(20 * MINUTE);

        hang_up(&proxy, asked(&proxy), 2).await;
        sleep(seconds((20 + minutes) * MINUTE)).await;

        let reply = proxy
            .ask(asked_with(&proxy, "x-request-timeout", "1500"))
            .await;
        assert_eq!(decision(&reply), by);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_owed_for_fifteen_minutes_after_a_late_hang_up() {
    for (minutes, by) in [(14, "attached"), (16, "created")] {
        let proxy = two_answers(1);

        let unread = proxy.send(asked(&proxy)).await;
        sleep(seconds(20 * MINUTE)).await;
        drop(unread);
        sleep(seconds(minutes * MINUTE)).await;

        let reply = proxy.ask(asked(&proxy)).await;
        assert_eq!(decision(&reply), by);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_and_is_asked_again_is_a_regeneration() {
    let proxy = two_answers(1);

    expect(&proxy, asked(&proxy), "first answer", "created").await;

    expect(&proxy, asked(&proxy), "second answer", "created").await;
    assert_eq!(posts(&proxy), 2);
}

#[tokio::test(start_paused = true)]
async fn a_marked_retry_gets_what_was_written_out_under_25_seconds_ago() {
    for (later, text, by) in [
        (0, "first answer", "attached"),
        (24, "first answer", "attached"),
        (26, "second answer", "created"),
    ] {
        let proxy = two_answers(1);

        expect(&proxy, asked(&proxy), "first answer", "created").await;
        sleep(seconds(later)).await;

        expect(&proxy, retried(&proxy), text, by).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_says_so_is_no_retry() {
    let proxy = two_answers(1);

    expect(&proxy, asked(&proxy), "first answer", "created").await;

    let first_attempt = asked_with(&proxy, "x-stainless-retry-count", "0");
    expect(&proxy, first_attempt, "second answer", "created").await;
}

#[tokio::test(start_paused = true)]
async fn two_equal_requests_with_both_callers_alive_are_two_runs() {
    for twin in [asked, retried] {
        let proxy = two_answers(20);

        let (first, second) = tokio::join!(proxy.ask(asked(&proxy)), async {
            sleep(seconds(5)).await;
            proxy.ask(twin(&proxy)).await
        });

        assert_eq!(
            (said(&first), decision(&first)),
            ("first answer", "created")
        );
        assert_eq!(
            (said(&second), decision(&second)),
            ("second answer", "created")
        );
        assert_eq!(posts(&proxy), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_has_attached_is_a_live_twin_to_the_next() {
    let proxy = two_answers(60);
    hang_up(&proxy, asked(&proxy), 10).await;
    let third = async {
        sleep(seconds(5)).await;
        proxy.ask(asked(&proxy)).await
    };

    let (second, third) = tokio::join!(proxy.ask(asked(&proxy)), third);

    assert_eq!(said(&second), "first answer");
    assert_eq!(said(&third), "second answer");
    assert_eq!(posts(&proxy), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_not_read_its_answer_yet_is_a_live_twin() {
    let proxy = two_answers(1);

    let unread = proxy.send(asked(&proxy)).await;
    expect(&proxy, retried(&proxy), "second answer", "created").await;

    let body = unread.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("first answer"));
}

#[tokio::test(start_paused = true)]
async fn of_two_equal_runs_left_alone_the_newest_is_collected_first() {
    let proxy = two_answers(20);

    tokio::join!(hang_up(&proxy, asked(&proxy), 10), async {
        sleep(seconds(2)).await;
        hang_up(&proxy, asked(&proxy), 10).await;
    });

    expect(&proxy, asked(&proxy), "second answer", "attached").await;
    expect(&proxy, asked(&proxy), "first answer", "attached").await;
    assert_eq!(posts(&proxy), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_under_another_name_never_attaches() {
    for (name, value) in [
        ("x-conversation-id", "another"),
        ("x-openwebui-chat-id", "another"),
        ("x-openwebui-user-id", "another"),
    ] {
        let proxy = two_answers(20);

        hang_up(&proxy, asked(&proxy), 10).await;
        let other = asked_with(&proxy, name, value);

        expect(&proxy, other, "second answer", "created").await;
        expect(&proxy, asked(&proxy), "first answer", "attached").await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_text_or_field_never_attaches() {
    let proxy = two_answers(20);
    let field = Talk::new(&proxy).fields(serde_json::json!({"max_tokens": 500}));

    hang_up(&proxy, asked(&proxy), 10).await;
    let text = proxy.chat("how many?").await;
    let field = proxy.ask(field.request("how much?", false)).await;

    assert_eq!((decision(&text), decision(&field)), ("created", "created"));
    assert_eq!(posts(&proxy), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stream_never_attaches_to_a_run_without_one() {
    let proxy = two_answers(20);

    hang_up(&proxy, asked(&proxy), 10).await;
    let mut talk = Talk::new(&proxy);
    let streamed = talk.streams("how much?").await;

    assert_eq!(streamed.text(), "second answer");
    expect(&proxy, asked(&proxy), "first answer", "attached").await;
}

#[tokio::test(start_paused = true)]
async fn another_caller_s_equal_request_never_attaches() {
    let proxy = Proxy::passing_through();
    proxy
        .sandbox
        .set_script(Script::always(Behaviour::says("an answer", seconds(20))));
    let of = |key: &str| asked_with(&proxy, "authorization", &format!("Bearer {key}"));

    hang_up(&proxy, of("sk-one"), 10).await;

    expect(&proxy, of("sk-two"), "an answer", "created").await;
    expect(&proxy, of("sk-one"), "an answer", "attached").await;
    assert_eq!(posts(&proxy), 2);
}

#[tokio::test(start_paused = true)]
async fn white_space_makes_no_other_request() {
    let proxy = two_answers(20);
    let body = |text: &str| {
        let headers = [("content-type", "application/json")];
        request("POST", "/v1/chat/completions", &headers, text)
    };
    let dense = r#"{"model":"m","messages":[{"role":"user","content":"how much?"}]}"#;

    hang_up(&proxy, body(dense), 10).await;

    let spaced = dense.replace(',', ",\n  ").replace(':', ": ");
    expect(&proxy, body(&spaced), "first answer", "attached").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_cut_is_told_from_its_beginning() {
    let grows = Behaviour {
        steps: vec![shows(3, "one"), shows(20, "one two")],
        ..Behaviour::says("one two", seconds(20))
    };
    let proxy = scripted(Script::always(grows));
    let stream = || Talk::new(&proxy).request("how much?", true);

    let mut begun = proxy.send(stream()).await;
    while let Some(Ok(frame)) = begun.frame().await {
        let data = frame.into_data().unwrap();
        if String::from_utf8_lossy(&data).contains("one") {
            break;
        }
    }
    drop(begun);
    let again = proxy.send(stream()).await;

    assert_eq!(
        again.headers().get("x-conversation-decision").unwrap(),
        "attached"
    );
    assert_eq!(Streamed::of(again).await.text(), "one two");
    assert_eq!(posts(&proxy), 1);
}

#[tokio::test(start_paused = true)]
async fn a_collected_answer_goes_on_on_its_thread() {
    let proxy = two_answers(20);
    let mut talk = Talk::new(&proxy);

    hang_up(&proxy, talk.request("how much?", false), 10).await;
    let collected = talk.says("how much?").await;
    let next = talk.says("and now?").await;

    assert_eq!(decision(&collected), "attached");
    assert_eq!(
        (said(&next), decision(&next)),
        ("second answer", "appended")
    );
    assert_eq!(proxy.sandbox.threads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_cut_amid_a_second_reading_may_come_again() {
    let proxy = two_answers(0);

    expect(&proxy, asked(&proxy), "first answer", "created").await;
    sleep(seconds(20)).await;
    drop(proxy.send(retried(&proxy)).await);
    sleep(seconds(10)).await;
    // Other turns sweep what is no longer needed.
    for _ in 0..5 {
        proxy.chat("something else").await;
    }

    expect(&proxy, retried(&proxy), "first answer", "attached").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_being_told_is_not_the_first_to_be_swept_away() {
    let proxy = at_most(2);
    let says = |text| Behaviour::says(text, seconds(1));
    proxy
        .sandbox
        .set_script(first(1, says("first answer"), says("second answer")));

    let unread = proxy.send(asked(&proxy)).await;
    for n in 0..4 {
        // Nobody reads these either, and their callers are gone.
        let other = Talk::new(&proxy).request(&format!("and {n}?"), false);
        drop(proxy.send(other).await);
    }
    drop(unread);

    expect(&proxy, asked(&proxy), "first answer", "attached").await;
}

#[tokio::test(start_paused = true)]
async fn no_more_answers_are_kept_than_there_may_be_however_many_callers_wait() {
    // More than are passed over at once.
    const WAITING: u32 = 70;
    let proxy = at_most(72);
    proxy.sandbox.set_script(first(
        WAITING,
        Behaviour::says("late", seconds(600)),
        Behaviour::says("at once", seconds(0)),
    ));
    let request = |text: String| Talk::new(&proxy).request(&text, false);
    let waiting = join_all((0..WAITING).map(|n| proxy.send(request(format!("wait for {n}?")))));
    let others = async {
        sleep(seconds(1)).await;
        for n in 0..6 {
            proxy.ask(request(format!("and {n}?"))).await;
        }
        // There is room for two, and all of them were delivered lately.
        let again = Talk::new(&proxy).header("x-stainless-retry-count", "1");
        for (n, by) in [(5, "attached"), (3, "created")] {
            let again = again.request(&format!("and {n}?"), false);
            expect(&proxy, again, "at once", by).await;
        }
    };

    tokio::select! {
        _ = waiting => panic!("those who wait were answered"),
        () = others => {}
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_were_delivered_make_room_before_those_that_are_owed() {
    const OWED: u32 = 100;
    let proxy = at_most(150);
    let says = |text, after| Behaviour::says(text, seconds(after));
    proxy
        .sandbox
        .set_script(first(OWED, says("owed", 4), says("at once", 0)));
    let owed = |n: u32| Talk::new(&proxy).request(&format!("owed {n}?"), false);

    join_all((0..OWED).map(|n| hang_up(&proxy, owed(n), 2))).await;
    sleep(seconds(8)).await;
    let other = |n| Talk::new(&proxy).request(&format!("and {n}?"), false);
    for round in 0..6 {
        join_all((0..20).map(|n| proxy.ask(other(20 * round + n)))).await;
    }

    let kept = join_all((0..OWED).map(|n| proxy.ask(owed(n)))).await;
    let kept = kept.iter().filter(|reply| decision(reply) == "attached");
    assert_eq!(kept.count(), OWED as usize);
}

#[tokio::test(start_paused = true)]
async fn other_turns_do_not_sweep_away_what_is_owed() {
    let proxy = two_answers(20);

    hang_up(&proxy, asked(&proxy), 10).await;
    sleep(seconds(10 * MINUTE)).await;
    for _ in 0..5 {
        proxy.chat("something else").await;
    }

    expect(&proxy, asked(&proxy), "first answer", "attached").await;
}
