//! Reads that find no place among our own calls: they say nothing of the upstream, and are made later.

use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{Answer, Behaviour, Lands, Post, Rule, Script};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, calls, decision, posted, said, seconds, soon};

/// How long somebody's POST takes the one connection that there is.
const TAKEN: u64 = 60;

fn narrow() -> Setup {
    let mut setup = Setup::default();
    setup.config.upstream.max_connections = 1;
    setup.config.upstream.queue_timeout = seconds(1);
    setup
}

fn rule(when: &str, behaviour: Behaviour) -> Rule {
    Rule {
        when: when.to_owned(),
        times: None,
        behaviour,
    }
}

fn script(lost: Option<Lands>) -> Script {
    let slow = Behaviour {
        post: Post {
            accept_after: seconds(TAKEN),
            ..Post::default()
        },
        ..soon("slow")
    };
    let reset = Behaviour {
        post: Post {
            answer: Answer::Reset,
            lands: lost,
            ..Post::default()
        },
        ..soon("second")
    };
    let mut reset = rule("two", reset);
    reset.times = Some(1);
    Script {
        rules: vec![rule("slow", slow), reset],
        ..Script::always(soon("first"))
    }
}

/// The second turn, which ends in doubt, while another takes the only place for a minute.
async fn crowded(proxy: &Proxy, talk: &mut Talk<'_>) -> crate::proxy::Reply {
    talk.says("one").await;
    let start = Instant::now();
    let other = async {
        sleep(seconds(1)).await;
        Talk::new(proxy).says("slow").await
    };

    let (second, other) = tokio::join!(talk.says("two"), other);

    assert_eq!(said(&other), "slow");
    let within = |call: &chaturdata_proxy::upstream::sandbox::Seen| {
        call.at > start && call.at < start + seconds(TAKEN)
    };
    assert!(
        !calls(proxy, Kind::Read).iter().any(within),
        "it is crowded"
    );
    second
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_looked_for_once_there_is_room() {
    let proxy = Proxy::start(narrow());
    proxy.sandbox.set_script(script(Some(Lands::AtOnce)));
    let mut talk = Talk::new(&proxy);

    let reply = crowded(&proxy, &mut talk).await;

    assert_eq!((said(&reply), decision(&reply)), ("second", "appended"));
    assert_eq!(posted(&proxy)[0], ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_transcript_is_read_once_there_is_room() {
    let mut setup = narrow();
    // It is looked for in vain within the first seconds.
    setup.config.pace.interval = seconds(2);
    let proxy = Proxy::start(setup);
    proxy.sandbox.set_script(script(Some(Lands::Never)));
    let mut talk = Talk::new(&proxy).header("x-conversation-id", "orders");

    talk.says("one").await;
    talk.messages.clear();
    let other = async {
        sleep(seconds(11)).await;
        Talk::new(&proxy).says("slow").await
    };
    let (second, _) = tokio::join!(talk.says("two"), other);

    assert_eq!((said(&second), decision(&second)), ("first", "replayed"));
    let told = "Earlier conversation:\n\nUser: one\n\nAssistant: first\n\n---\n\ntwo";
    assert!(posted(&proxy).iter().any(|texts| texts == &[told]));
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_neither_behind_anothers_hundred_nor_behind_their_polls() {
    let proxy = super::shared(|setup| {
        setup.config.upstream.max_connections = 2;
        setup.config.upstream.queue_timeout = seconds(600);
        setup.config.run.limit = seconds(3600);
    });
    let slowly = Behaviour {
        post: Post {
            accept_after: seconds(1),
            ..Post::default()
        },
        ..Behaviour::says("yes", seconds(60))
    };
    proxy.sandbox.set_script(Script::always(slowly));
    let asked = (0..100).map(|n| {
        let proxy = &proxy;
        async move { super::asks(proxy, "a", &format!("much {n}")).await }
    });
    let flood = join_all(asked);
    let other = async {
        sleep(seconds(20)).await;
        super::asks(&proxy, "b", "little").await
    };

    let (much, little) = tokio::join!(flood, other);

    assert!(much.iter().all(|reply| said(reply) == "yes"));
    assert_eq!(said(&little), "yes");
    let posts = posted(&proxy).into_iter().flatten().collect::<Vec<_>>();
    let at = posts.iter().position(|text| text == "little");
    assert!(at.is_some_and(|at| at <= 23), "{at:?} of {}", posts.len());
}
