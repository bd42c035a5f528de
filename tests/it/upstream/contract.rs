//! What holds of every upstream: the same script, in process and over HTTP, is taken the same way.

use std::time::Duration;

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Canned, Post, Read, RightKey, Rule, Script,
};
use chaturdata_proxy::upstream::{Busy, PostError, ReadError, Role, RunStatus, ThreadId, Upstream};

use super::{following, key, opening, peer};

/// Every rule speaks to the message that names it.
fn script() -> Script {
    let rule = |(when, behaviour): (&str, Behaviour)| Rule {
        when: when.to_owned(),
        times: None,
        behaviour,
    };
    let rules = posts().into_iter().chain(reads());
    Script {
        key: Some(RightKey(key())),
        rules: rules.map(rule).collect(),
        ..Script::always(Behaviour::says("hello", Duration::ZERO))
    }
}

fn posts() -> Vec<(&'static str, Behaviour)> {
    let other = serde_json::json!({"thread_id": "th_other"});
    let other = other.as_object().unwrap().clone();
    let answers = [
        ("post busy", busy(429)),
        ("post later", busy(503)),
        ("post 503", Answer::status(503)),
        ("post 502", Answer::html(502)),
        ("post 413", Answer::status(413)),
        ("post away", away()),
        ("post reset", Answer::Reset),
        ("post cut", Answer::Cut(9)),
        ("post endless", Answer::Endless),
        (
            "post threadless",
            Answer::Without(vec!["thread_id".to_owned()]),
        ),
        ("post other", Answer::With(other)),
        ("post typed", Answer::Typed("text/plain".to_owned())),
    ];
    let behaviour = |answer| Behaviour {
        post: Post {
            answer,
            ..Post::default()
        },
        ..Behaviour::says("hello", Duration::ZERO)
    };
    answers
        .map(|(when, answer)| (when, behaviour(answer)))
        .into()
}

fn reads() -> Vec<(&'static str, Behaviour)> {
    let answers = [
        ("read busy", busy(429)),
        ("read 503", Answer::status(503)),
        ("read 500", Answer::html(500)),
        ("read away", away()),
        ("read reset", Answer::Reset),
        ("read cut", Answer::Cut(9)),
        ("read endless", Answer::Endless),
        ("read 401", Answer::status(401)),
        ("read 404", Answer::html(404)),
        (
            "read statusless",
            Answer::Without(vec!["run_status".to_owned()]),
        ),
    ];
    let behaviour = |answer| Behaviour {
        reads: vec![Read::these(1, 1, answer)],
        ..Behaviour::says("hello", Duration::ZERO)
    };
    answers
        .map(|(when, answer)| (when, behaviour(answer)))
        .into()
}

fn busy(status: u16) -> Answer {
    Answer::Canned(Canned {
        status,
        retry_after: Some("2".to_owned()),
        ..Canned::default()
    })
}

fn away() -> Answer {
    Answer::Canned(Canned {
        status: 307,
        location: Some("http://127.0.0.2:9/".to_owned()),
        ..Canned::default()
    })
}

async fn both() -> [Box<dyn Upstream>; 2] {
    let url = peer::serving(Sandbox::new(script())).await;
    [
        Box::new(Sandbox::new(script())),
        Box::new(peer::client(&url)),
    ]
}

#[tokio::test]
async fn a_thread_holds_its_messages_and_their_answers() {
    for upstream in both().await {
        let posted = upstream.post(&key(), &opening("first")).await.unwrap();
        let thread = posted.thread;
        let again = upstream
            .post(&key(), &following(&thread, "second"))
            .await
            .unwrap();
        let read = upstream.read(&key(), &thread).await.unwrap();

        let texts: Vec<_> = read
            .messages
            .iter()
            .map(|m| (m.role.unwrap(), m.text.as_str()))
            .collect();
        let (user, assistant) = (Role::User, Role::Assistant);
        assert_eq!(again.thread, thread);
        assert_eq!(posted.status, Some(RunStatus::Pending));
        assert_eq!(read.status, Some(RunStatus::Completed));
        assert_eq!(
            texts,
            [
                (user, "first"),
                (assistant, "hello"),
                (user, "second"),
                (assistant, "hello")
            ]
        );
    }
}

#[tokio::test]
async fn a_refused_post_is_told_from_one_of_unknown_outcome() {
    let refused = [("post busy", 429), ("post later", 503), ("post 413", 413)];
    let unknown = [
        "post 503",
        "post 502",
        "post away",
        "post reset",
        "post cut",
        "post endless",
        "post threadless",
        "post other",
    ];

    for upstream in both().await {
        let thread = upstream
            .post(&key(), &opening("first"))
            .await
            .unwrap()
            .thread;
        for (text, status) in refused {
            let error = upstream
                .post(&key(), &following(&thread, text))
                .await
                .unwrap_err();

            let PostError::Refused(refusal) = error else {
                panic!("{text}: {error:?}")
            };
            assert_eq!(refusal.status, status);
            assert_eq!(refusal.retry_after.is_some(), status != 413, "{text}");
        }
        for text in unknown {
            let error = upstream
                .post(&key(), &following(&thread, text))
                .await
                .unwrap_err();

            assert!(matches!(error, PostError::Unknown(_)), "{text}: {error:?}");
        }
        upstream
            .post(&key(), &following(&thread, "post typed"))
            .await
            .unwrap();
    }
}

fn busy_read(status: u16, retry_after: Option<Duration>) -> ReadError {
    ReadError::Busy(Busy {
        status: Some(status),
        retry_after,
    })
}

#[tokio::test]
async fn a_read_that_fails_says_what_to_do_next() {
    let wait = Some(Duration::from_secs(2));
    let exact = [
        ("read busy", busy_read(429, wait)),
        ("read 503", busy_read(503, None)),
        ("read 401", ReadError::KeyRefused(401)),
        ("read 404", ReadError::NoThread),
    ];

    for upstream in both().await {
        for (text, expected) in &exact {
            let thread = upstream.post(&key(), &opening(text)).await.unwrap().thread;

            assert_eq!(
                upstream.read(&key(), &thread).await.as_ref(),
                Err(expected),
                "{text}"
            );
            upstream.read(&key(), &thread).await.unwrap();
        }
        for text in [
            "read 500",
            "read away",
            "read reset",
            "read cut",
            "read endless",
        ] {
            let thread = upstream.post(&key(), &opening(text)).await.unwrap().thread;
            let error = upstream.read(&key(), &thread).await.unwrap_err();

            assert!(matches!(error, ReadError::Passing(_)), "{text}: {error:?}");
        }
        let thread = upstream
            .post(&key(), &opening("read statusless"))
            .await
            .unwrap()
            .thread;
        assert_eq!(upstream.read(&key(), &thread).await.unwrap().status, None);
    }
}

#[tokio::test]
async fn a_thread_or_a_key_that_the_upstream_does_not_know_is_refused() {
    let nowhere = ThreadId("th_nowhere".into());
    let wrong = Secret::new("sk-wrong");

    for upstream in both().await {
        let lost = upstream
            .post(&key(), &following(&nowhere, "hi"))
            .await
            .unwrap_err();
        let locked = upstream.post(&wrong, &opening("hi")).await.unwrap_err();

        assert!(matches!(lost, PostError::Refused(refusal) if refusal.status == 404));
        assert!(matches!(locked, PostError::Refused(refusal) if refusal.status == 401));
        assert_eq!(
            upstream.read(&key(), &nowhere).await,
            Err(ReadError::NoThread)
        );
        assert_eq!(
            upstream.read(&wrong, &nowhere).await,
            Err(ReadError::KeyRefused(401))
        );
    }
}
