//! What a script can make of the simulated upstream, as it shows over time.

use std::time::Duration;

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Content, Echo, Failure, Foreign, Lands, Place, Post, Rule, Script, Step,
    When,
};
use chaturdata_proxy::upstream::sandbox::shape::{Field, Order, Shape, StatusShape, TextShape};
use chaturdata_proxy::upstream::sandbox::{Kind, Sandbox};
use chaturdata_proxy::upstream::{PostError, ReadError, RunStatus, Thread, ThreadId, Upstream};
use tokio::time::{Instant, sleep};

use super::{following, key, opening};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn says(text: &str) -> Behaviour {
    Behaviour::says(text, seconds(4))
}

fn texts(thread: &Thread) -> Vec<&str> {
    thread
        .messages
        .iter()
        .map(|message| message.text.as_str())
        .collect()
}

/// A sandbox that does this to every message, and a thread begun with "question".
async fn begun(behaviour: Behaviour) -> (Sandbox, ThreadId) {
    let sandbox = Sandbox::new(Script::always(behaviour));
    let posted = sandbox.post(&key(), &opening("question")).await.unwrap();
    (sandbox, posted.thread)
}

async fn read(sandbox: &Sandbox, thread: &ThreadId) -> Thread {
    sandbox.read(&key(), thread).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_reply_comes_after_its_time_and_grows_before() {
    let (sandbox, thread) = begun(Behaviour {
        growth: 1,
        ..says("12345678")
    })
    .await;
    let mut seen = Vec::new();

    for _ in 0..5 {
        let read = read(&sandbox, &thread).await;
        seen.push((
            read.status.unwrap(),
            texts(&read)
                .get(1)
                .map_or(String::new(), ToString::to_string),
        ));
        sleep(seconds(1)).await;
    }

    let pending = |text: &str| (RunStatus::Pending, text.to_owned());
    assert_eq!(
        seen[..4],
        [pending(""), pending(""), pending(""), pending("")]
    );
    assert_eq!(seen[4], (RunStatus::Completed, "12345678".to_owned()));
    let (sandbox, thread) = begun(Behaviour {
        growth: 1,
        ..says("12345678")
    })
    .await;
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(texts(&read(&sandbox, &thread).await), ["question", "1234"]);
}

#[tokio::test(start_paused = true)]
async fn text_may_change_and_shrink_even_after_the_end() {
    let step = |at, text: &str| Step {
        at: seconds(at),
        reply: vec![Content::Text(text.to_owned())],
    };
    let steps = vec![step(1, "one two"), step(2, "one"), step(9, "changed")];
    let (sandbox, thread) = begun(Behaviour {
        steps,
        ..says("one two three")
    })
    .await;
    let mut seen = Vec::new();

    for wait in [1, 1, 2, 5] {
        sleep(seconds(wait)).await;
        seen.push(read(&sandbox, &thread).await.messages.pop().unwrap().text);
    }

    assert_eq!(seen, ["one two", "one", "one two three", "changed"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_as_it_is_told_with_words_wherever_they_stand() {
    let places = [
        Place::LastError,
        Place::LastErrorText,
        Place::Error,
        Place::ErrorMessage,
        Place::Message,
    ];
    let endings = [
        ("failed", RunStatus::Failed),
        ("expired", RunStatus::Expired),
        ("cancelled", RunStatus::Cancelled),
        ("requires_action", RunStatus::Pending),
    ];

    for (ending, status) in endings {
        for place in places {
            let failure = Failure {
                words: "no such table".to_owned(),
                place,
            };
            let (sandbox, thread) = begun(Behaviour::ends(ending, Some(failure), seconds(1))).await;

            assert_eq!(
                read(&sandbox, &thread).await.status,
                Some(RunStatus::Pending)
            );
            sleep(seconds(1)).await;
            let read = read(&sandbox, &thread).await;

            let words = (status != RunStatus::Pending).then_some("no such table");
            assert_eq!(
                (read.status, read.failure.as_deref()),
                (Some(status), words),
                "{ending}"
            );
            assert_eq!(texts(&read), ["question"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_run_shows_what_text_there_is() {
    let behaviour = Behaviour {
        ending: "incomplete".to_owned(),
        ..says("half an answ")
    };
    let (sandbox, thread) = begun(behaviour).await;

    sleep(seconds(4)).await;
    let read = read(&sandbox, &thread).await;

    assert_eq!(read.status, Some(RunStatus::Incomplete));
    assert_eq!(texts(&read), ["question", "half an answ"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_may_land_long_after_its_post_failed() {
    let late = Post {
        answer: Answer::Reset,
        lands: Some(Lands::After(seconds(30))),
        ..Post::default()
    };
    let (sandbox, thread) = begun(says("hello")).await;
    sandbox.set_script(Script::always(Behaviour {
        post: late,
        ..says("late")
    }));

    let outcome = sandbox.post(&key(), &following(&thread, "again")).await;
    sleep(seconds(29)).await;
    let before = read(&sandbox, &thread).await;
    sleep(seconds(6)).await;
    let after = read(&sandbox, &thread).await;

    assert!(matches!(outcome, Err(PostError::Unknown(_))));
    assert_eq!(texts(&before), ["question", "hello"]);
    assert_eq!(texts(&after), ["question", "hello", "again", "late"]);
    assert_eq!(sandbox.posts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_is_given_up_before_its_acceptance_never_lands() {
    let slow = Post {
        accept_after: seconds(10),
        ..Post::default()
    };
    let sandbox = Sandbox::new(Script::always(Behaviour {
        post: slow,
        ..says("x")
    }));

    let outcome = tokio::time::timeout(seconds(9), sandbox.post(&key(), &opening("hi"))).await;

    sleep(seconds(60)).await;
    assert!(outcome.is_err());
    assert_eq!(sandbox.posts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_post_may_not_reach_the_upstream_at_all() {
    let failing = |answer| {
        Script::always(Behaviour {
            post: Post {
                answer,
                ..Post::default()
            },
            ..says("x")
        })
    };
    let closed = Sandbox::new(failing(Answer::Unreachable));
    let forged = Sandbox::new(failing(Answer::Certificate));
    let silent = Sandbox::new(failing(Answer::Hang));

    let begun = Instant::now();
    assert!(matches!(
        closed.post(&key(), &opening("hi")).await,
        Err(PostError::Unsent(_))
    ));
    assert!(matches!(
        forged.post(&key(), &opening("hi")).await,
        Err(PostError::Certificate(_))
    ));
    assert!(matches!(
        silent.post(&key(), &opening("hi")).await,
        Err(PostError::Unknown(_))
    ));
    assert_eq!(begun.elapsed(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn a_post_while_a_run_is_active_may_be_refused() {
    let strict = Post {
        while_active: Some(409),
        ..Post::default()
    };
    let (sandbox, thread) = begun(Behaviour {
        post: strict,
        ..says("hello")
    })
    .await;

    let refused = sandbox.post(&key(), &following(&thread, "again")).await;
    sleep(seconds(4)).await;
    let accepted = sandbox.post(&key(), &following(&thread, "again")).await;

    assert!(matches!(refused, Err(PostError::Refused(refusal)) if refusal.status == 409));
    assert!(accepted.is_ok());
}

#[tokio::test(start_paused = true)]
async fn status_and_messages_may_lag() {
    let stale = Behaviour {
        stale_reads: 1,
        message_lag: 2,
        reply_lag: 1,
        ..says("hello")
    };
    let (sandbox, thread) = begun(stale).await;
    let mut seen = Vec::new();

    for _ in 0..6 {
        let read = read(&sandbox, &thread).await;
        seen.push((read.status.unwrap(), read.messages.len()));
        sleep(seconds(1)).await;
    }

    let (completed, pending) = (RunStatus::Completed, RunStatus::Pending);
    assert_eq!(
        seen,
        [
            (completed, 0),
            (pending, 0),
            (pending, 1),
            (pending, 1),
            (completed, 1),
            (completed, 2)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_post_may_be_answered_completed_or_failed_at_once() {
    let post = |status: &str| Post {
        status: Some(status.to_owned()),
        ..Post::default()
    };
    let done = Behaviour {
        post: post("completed"),
        ..Behaviour::says("hello", Duration::ZERO)
    };
    let failure = Failure {
        words: "no".to_owned(),
        place: Place::LastError,
    };
    let broken = Behaviour {
        post: post("failed"),
        ..Behaviour::ends("failed", Some(failure), Duration::ZERO)
    };

    let done = Sandbox::new(Script::always(done))
        .post(&key(), &opening("hi"))
        .await
        .unwrap();
    let broken = Sandbox::new(Script::always(broken))
        .post(&key(), &opening("hi"))
        .await
        .unwrap();

    assert_eq!(
        (done.status, done.failure),
        (Some(RunStatus::Completed), None)
    );
    assert_eq!(
        (broken.status, broken.failure.as_deref()),
        (Some(RunStatus::Failed), Some("no"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_shown_in_the_form_that_is_asked_for() {
    let shape = Shape {
        order: Order::NewestFirst,
        omit: vec![Field::Id, Field::Role],
        window: Some(3),
        run_status: StatusShape::Bare,
        text: TextShape::Content,
    };
    let parts = Content::Parts(vec![
        serde_json::json!({"type": "image_file", "file_id": "f_1"}),
    ]);
    let reply = vec![Content::Text("a".to_owned()), parts];
    let (sandbox, thread) = begun(Behaviour {
        shape,
        reply,
        ..says("")
    })
    .await;
    sandbox
        .post(&key(), &following(&thread, "again"))
        .await
        .unwrap();

    sleep(seconds(4)).await;
    let read = read(&sandbox, &thread).await;

    assert_eq!(texts(&read), ["[image file f_1]", "a", "[image file f_1]"]);
    assert_eq!(read.status, Some(RunStatus::Completed));
    assert!(
        read.messages
            .iter()
            .all(|m| m.id.is_none() && m.role.is_none() && m.created_at.is_some())
    );
}

#[tokio::test(start_paused = true)]
async fn strangers_may_write_on_the_thread() {
    let stranger = |text: &str, at, reply: Option<&str>| Foreign {
        text: text.to_owned(),
        reply: reply.map(str::to_owned),
        at,
    };
    let foreign = vec![
        stranger("before", When::Before, None),
        stranger("between", When::After(seconds(1)), Some("to the stranger")),
        stranger("after", When::After(seconds(60)), None),
    ];
    let (sandbox, thread) = begun(Behaviour {
        foreign,
        ..says("hello")
    })
    .await;

    sleep(seconds(10)).await;
    let soon = read(&sandbox, &thread).await;
    sleep(seconds(60)).await;
    let late = read(&sandbox, &thread).await;

    let expected = [
        "before",
        "question",
        "between",
        "to the stranger",
        "hello",
        "after",
    ];
    assert_eq!(texts(&soon), expected[..5]);
    assert_eq!(texts(&late), expected);
    let mut ids: Vec<_> = late
        .messages
        .iter()
        .map(|message| message.id.clone().unwrap())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), expected.len());
}

#[tokio::test(start_paused = true)]
async fn the_message_may_be_stored_in_other_words() {
    let sandbox = Sandbox::new(Script::always(Behaviour {
        echo: Echo::Rewrapped,
        ..says("x")
    }));

    let thread = sandbox
        .post(&key(), &opening(" a\n\n b "))
        .await
        .unwrap()
        .thread;

    assert_eq!(texts(&read(&sandbox, &thread).await), ["a b"]);
    assert_eq!(sandbox.posts(), [(thread, " a\n\n b ".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_is_for_messages_that_hold_its_text_until_it_is_used_up() {
    let rule = Rule {
        when: "fail".to_owned(),
        times: Some(1),
        behaviour: Behaviour::ends("failed", None, seconds(1)),
    };
    let sandbox = Sandbox::new(Script {
        rules: vec![rule],
        ..Script::always(says("hello"))
    });
    let mut endings = Vec::new();

    for text in ["hi", "please fail", "please fail"] {
        let thread = sandbox.post(&key(), &opening(text)).await.unwrap().thread;
        sleep(seconds(4)).await;
        endings.push(read(&sandbox, &thread).await.status.unwrap());
    }

    assert_eq!(
        endings,
        [
            RunStatus::Completed,
            RunStatus::Failed,
            RunStatus::Completed
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_are_remembered_with_their_keys_and_never_printed() {
    let (sandbox, thread) = begun(says("hello")).await;
    sleep(seconds(3)).await;
    let asked = Instant::now();
    sandbox
        .read(&Secret::new("sk-other"), &thread)
        .await
        .unwrap();
    sandbox.forget(&thread);

    let calls = sandbox.calls();
    let keys: Vec<_> = calls
        .iter()
        .map(|call| (call.kind, call.key.as_ref().unwrap().expose()))
        .collect();
    assert_eq!(keys, [(Kind::Post, "sk-test"), (Kind::Read, "sk-other")]);
    assert_eq!(sandbox.reads(&thread), [asked]);
    assert!(!format!("{calls:?} {sandbox:?}").contains("sk-"));
    assert_eq!(sandbox.threads(), []);
    assert_eq!(
        sandbox.read(&key(), &thread).await,
        Err(ReadError::NoThread)
    );
}

#[tokio::test(start_paused = true)]
async fn equal_scripts_give_equal_answers() {
    let talk = async || {
        let (sandbox, thread) = begun(says("hello")).await;
        sleep(seconds(5)).await;
        (thread.clone(), read(&sandbox, &thread).await)
    };

    assert_eq!(talk().await, talk().await);
}
