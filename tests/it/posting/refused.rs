//! A POST that the upstream says no to: told as it is, and never posted.

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::callers::CallerKeys;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Canned};
use tokio::time::Instant;

use crate::proxy::{Proxy, Reply, Setup};
use crate::talk::{
    Talk, answers, busy, calls, decision, first, message, posted, said, seconds, soon, told,
};

fn refusal(status: u16) -> Answer {
    Answer::Canned(Canned {
        status,
        body: r#"{"error": {"message": "it is too long"}}"#.to_owned(),
        ..Canned::default()
    })
}

/// The second turn of a conversation, refused, and the third: the same again, and taken.
async fn refused_once(proxy: &Proxy, answer: Answer) -> (Reply, Reply) {
    let mut talk = Talk::new(proxy).header("authorization", "Bearer sk-caller");
    talk.is_met("one", soon("first")).await;
    let refused = talk.is_met("two", answers(answer)).await;
    let again = talk.is_met("two", soon("second")).await;
    (refused, again)
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_is_told_in_the_upstreams_words_and_the_thread_goes_on() {
    for status in [400, 413, 422] {
        let proxy = Proxy::passing_through();

        let (refused, again) = refused_once(&proxy, refusal(status)).await;

        assert_eq!(told(&refused), "400 invalid_request_error upstream_refused");
        assert_eq!(
            message(&refused),
            "the upstream refused the message: it is too long"
        );
        assert_eq!((said(&again), decision(&again)), ("second", "appended"));
        assert_eq!(posted(&proxy), [["one", "two"]], "{status}");
        assert_eq!(calls(&proxy, Kind::Post).len(), 3, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_opening_leaves_nothing_behind() {
    for status in [400, 409, 413, 422] {
        let proxy = Proxy::passing_through();
        let mut talk = Talk::new(&proxy).header("authorization", "Bearer sk-caller");

        let refused = talk.is_met("one", answers(refusal(status))).await;
        let again = talk.is_met("one", soon("first")).await;

        assert_eq!(told(&refused), "400 invalid_request_error upstream_refused");
        assert_eq!(decision(&again), "created");
        assert_eq!(posted(&proxy), [["one"]]);
        assert_eq!(calls(&proxy, Kind::Post).len(), 2, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_key_that_is_refused_is_its_own_matter() {
    let proxy = Proxy::passing_through();
    let (refused, again) = refused_once(&proxy, refusal(401)).await;
    assert_eq!(told(&refused), "401 authentication_error invalid_api_key");
    assert!(message(&refused).starts_with("Incorrect API key provided"));
    assert_eq!(decision(&again), "appended");

    let proxy = Proxy::passing_through();
    let (refused, again) = refused_once(&proxy, refusal(403)).await;
    assert_eq!(told(&refused), "403 permission_error upstream_forbidden");
    assert_eq!(decision(&again), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_key_of_the_proxys_that_is_refused_is_the_proxys_matter() {
    for status in [401, 403] {
        let pair = ("caller".to_owned(), Secret::new("sk-caller"));
        let proxy = Proxy::start(Setup {
            access: Access::Held {
                key: Secret::new("sk-upstream"),
                callers: CallerKeys::of([pair]),
                anyone: false,
            },
            ..Setup::default()
        });

        let (refused, again) = refused_once(&proxy, refusal(status)).await;

        assert_eq!(
            told(&refused),
            "502 server_error upstream_key_refused x-should-retry=false"
        );
        assert!(!refused.text.contains("sk-"), "{}", refused.text);
        assert_eq!(decision(&again), "appended");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_is_lost_is_replayed_on_a_new_one() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);
    talk.is_met("one", soon("first")).await;
    let lost = proxy.sandbox.threads().remove(0);
    proxy.sandbox.forget(&lost);

    let reply = talk.is_met("two", soon("second")).await;
    let next = talk.is_met("three", soon("third")).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "replayed"));
    assert_eq!((said(&next), decision(&next)), ("third", "appended"));
    assert_eq!(
        posted(&proxy),
        [[
            "Earlier conversation:\n\nUser: one\n\nAssistant: first\n\n---\n\ntwo",
            "three"
        ]]
    );
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_knows_no_such_route_gives_no_usable_answer() {
    let proxy = Proxy::start(Setup::default());
    let mut talk = Talk::new(&proxy);

    let reply = talk.is_met("one", answers(refusal(404))).await;

    assert_eq!(
        told(&reply),
        "502 server_error upstream_error retry-after=1"
    );
    assert_eq!(calls(&proxy, Kind::Post).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_upstream_is_waited_for_twice() {
    for status in [429, 503] {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let started = Instant::now();
        proxy
            .sandbox
            .set_script(first(2, answers(busy(status, Some("7"))), soon("hi")));

        let reply = talk.says("hello").await;

        assert_eq!(said(&reply), "hi");
        assert_eq!(started.elapsed(), seconds(7 + 7 + 2));
        assert_eq!(posted(&proxy), [["hello"]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_an_upstream_that_stays_busy_is_told_how_long_to_wait() {
    // Asked for, tries, seconds waited, told.
    let table = [
        (Some("2"), 3, 4, "retry-after=2"),
        (Some("0.5"), 3, 1, "retry-after=1"),
        (Some("15"), 3, 30, "retry-after=15"),
        (Some("16"), 2, 16, "retry-after=16"),
        (Some("31"), 1, 0, "retry-after=31"),
        (Some("3600"), 1, 0, "retry-after=60"),
        (None, 3, 6, "retry-after=10"),
    ];
    for (asked, tries, waited, retry_after) in table {
        let proxy = Proxy::start(Setup::default());
        let mut talk = Talk::new(&proxy);
        let started = Instant::now();

        let reply = talk.is_met("hello", answers(busy(429, asked))).await;

        assert_eq!(
            told(&reply),
            format!("429 rate_limit_error rate_limit_exceeded {retry_after}")
        );
        assert_eq!(calls(&proxy, Kind::Post).len(), tries, "{asked:?}");
        assert_eq!(started.elapsed(), seconds(waited), "{asked:?}");
        assert!(proxy.sandbox.posts().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_upstream_leaves_the_thread_as_it_was() {
    for status in [429, 503] {
        let proxy = Proxy::passing_through();

        let (refused, again) = refused_once(&proxy, busy(status, Some("20"))).await;

        assert_eq!(
            told(&refused),
            "429 rate_limit_error rate_limit_exceeded retry-after=20"
        );
        assert_eq!((said(&again), decision(&again)), ("second", "appended"));
        assert_eq!(posted(&proxy), [["one", "two"]]);
        assert_eq!(calls(&proxy, Kind::Read).len(), 2);
    }
}
