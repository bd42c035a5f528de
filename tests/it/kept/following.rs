//! A request that names a response goes on from there: on its thread if nothing was said since, else on
//! a new one.

use chaturdata_proxy::conversation::{Base, Decision, Message, Names, Role, Turn};
use chaturdata_proxy::ids::{Handle, ResponseId};
use chaturdata_proxy::run::Error;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use chaturdata_proxy::upstream::sandbox::shape::Shape;
use tokio::time::sleep;

use super::Rig;
use crate::talk::{first, posted, seconds, soon};

#[tokio::test(start_paused = true)]
async fn what_follows_on_the_end_of_a_conversation_is_appended() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;

    let two = rig.tells(rig.after(one.id(), "two")).await;
    let three = rig.tells(rig.after(two.id(), "three")).await;

    assert_eq!([two.decision, three.decision], [Decision::Appended; 2]);
    assert_eq!(
        [two.conversation, three.conversation],
        [one.conversation.clone(), one.conversation]
    );
    assert_eq!(posted(&rig.proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn what_follows_on_an_older_point_begins_a_thread_with_what_was_said_up_to_there() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    let two = rig.tells(rig.after(one.id(), "two")).await;

    let other = rig.tells(rig.after(one.id(), "another")).await;
    let next = rig.tells(rig.after(other.id(), "and then")).await;
    let third = rig.tells(rig.after(two.id(), "three")).await;

    assert_eq!(other.decision, Decision::Forked);
    assert_ne!(other.conversation, one.conversation);
    assert_eq!([next.decision, third.decision], [Decision::Appended; 2]);
    let forked = "Earlier conversation:\n\nUser: one\n\nAssistant: first\n\n---\n\nanother";
    assert_eq!(
        posted(&rig.proxy),
        [vec!["one", "two", "three"], vec![forked, "and then"]]
    );
}

#[tokio::test(start_paused = true)]
async fn a_fork_of_a_fork_is_told_the_whole_conversation() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    rig.tells(rig.after(one.id(), "two")).await;
    let fork = rig.tells(rig.after(one.id(), "three")).await;
    rig.tells(rig.after(fork.id(), "four")).await;

    rig.tells(rig.after(fork.id(), "five")).await;

    assert_eq!(
        posted(&rig.proxy)[2],
        [
            "Earlier conversation:\n\nUser: one\n\nAssistant: first\n\nUser: three\n\nAssistant: \
          later\n\n---\n\nfive"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn two_that_follow_on_one_response_at_once_are_apart() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;

    let (two, three) = tokio::join!(
        rig.tells(rig.after(one.id(), "two")),
        rig.tells(rig.after(one.id(), "three")),
    );

    assert_eq!(
        [two.decision, three.decision],
        [Decision::Appended, Decision::Forked]
    );
    assert_eq!(posted(&rig.proxy).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_request_adds_before_its_prompt_is_told_with_it() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    let mut turn = rig.after(one.id(), "two");
    turn.history = vec![
        Message::said(Role::User, "aside"),
        Message::said(Role::Assistant, "noted"),
    ];

    let two = rig.tells(turn).await;
    let mut whole = rig.turn("three");
    for (role, text) in [
        (Role::User, "one"),
        (Role::Assistant, "first"),
        (Role::User, "aside"),
        (Role::Assistant, "noted"),
        (Role::User, "two"),
        (Role::Assistant, "later"),
    ] {
        whole.history.push(Message::said(role, text));
    }
    let three = rig.tells(whole).await;

    assert_eq!([two.decision, three.decision], [Decision::Appended; 2]);
    let added = "Earlier conversation:\n\nUser: aside\n\nAssistant: noted\n\n---\n\ntwo";
    assert_eq!(posted(&rig.proxy), [["one", added, "three"]]);
}

#[tokio::test(start_paused = true)]
async fn instructions_hold_for_one_response_alone() {
    let rig = Rig::new();
    let mut turn = rig.turn("one");
    turn.instructions = Some("Be brief.".to_owned());
    let one = rig.tells(turn).await;

    let two = rig.tells(rig.after(one.id(), "two")).await;
    rig.tells(rig.after(two.id(), "three")).await;

    assert_eq!(
        posted(&rig.proxy),
        [[
            "Instructions:\n\nBe brief.\n\n---\n\none",
            "The earlier instructions no longer apply.\n\n---\n\ntwo",
            "three",
        ]]
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_and_foreign_ids_are_alike() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    let foreign = Turn {
        caller: rig.caller("sk-other"),
        ..rig.after(one.id(), "two")
    };
    let unknown = ResponseId([99; 16]);

    assert_eq!(
        rig.refused(foreign),
        Error::NoResponse(one.id().to_string())
    );
    assert_eq!(
        rig.refused(rig.after(unknown, "two")),
        Error::NoResponse(unknown.to_string())
    );
    assert_eq!(rig.home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_no_matter_where_the_history_comes_with_it() {
    let rig = Rig::new();
    let mut turn = rig.after(ResponseId([99; 16]), "two");
    turn.history = vec![
        Message::said(Role::User, "one"),
        Message::said(Role::Assistant, "first"),
    ];

    let told = rig.tells(turn).await;

    assert_eq!(told.decision, Decision::Replayed);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_on_what_has_no_answer() {
    let script = first(
        1,
        Behaviour::ends("failed", None, seconds(1)),
        Behaviour::says("slow", seconds(60)),
    );
    let rig = Rig::with(script);
    let failed = rig.tells(rig.turn("one")).await;
    let slow = rig.start(rig.turn("two"));
    let slow_id = slow.kept().unwrap().id;

    for (id, why) in [
        (failed.id(), "has no answer"),
        (slow_id, "is not complete yet"),
    ] {
        assert_eq!(
            rig.refused(rig.after(id, "three")),
            Error::NotFollowable(id.to_string(), why)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_thread_does_not_show_any_more_is_asked_for() {
    let shape = Shape {
        window: Some(4),
        ..Shape::default()
    };
    let rig = Rig::with(Script::always(Behaviour {
        shape,
        ..soon("yes")
    }));
    let one = rig.tells(rig.turn("one")).await;
    let mut last = one.id();
    for text in ["two", "three", "four"] {
        last = rig.tells(rig.after(last, text)).await.id();
    }

    let told = rig.tells(rig.after(one.id(), "another")).await;

    assert_eq!(told.answer, Err(Error::OutOfSight(one.id().to_string())));
    assert_eq!(posted(&rig.proxy).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_thread_leaves_nothing_to_follow_on() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    rig.home.sandbox.forget(&rig.home.sandbox.threads()[0]);

    let two = rig.tells(rig.after(one.id(), "two")).await;

    assert_eq!(two.answer, Err(Error::NoResponse(one.id().to_string())));
}

#[tokio::test(start_paused = true)]
async fn a_response_is_followed_after_a_restart() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    let two = rig.tells(rig.after(one.id(), "two")).await;
    let rig = rig.restarted().await;

    let three = rig.tells(rig.after(two.id(), "three")).await;
    let other = rig.tells(rig.after(one.id(), "another")).await;

    assert_eq!(
        [three.decision, other.decision],
        [Decision::Appended, Decision::Forked]
    );
    assert_eq!(posted(&rig.proxy)[0], ["one", "two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_of_the_caller_s_own_goes_where_the_response_leads() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    let mut turn = rig.after(one.id(), "two");
    turn.names = Names {
        handle: Some(Handle("mine".into())),
        ..Names::default()
    };
    rig.tells(turn).await;
    sleep(seconds(60)).await;

    let mut turn = rig.turn("three");
    turn.names.handle = Some(Handle("mine".into()));
    let three = rig.tells(turn).await;

    assert_eq!(three.decision, Decision::Appended);
    assert_eq!(posted(&rig.proxy), [["one", "two", "three"]]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_decides_alike_and_leaves_no_trace() {
    let rig = Rig::new();
    let one = rig.tells(rig.turn("one")).await;
    let plan = |turn: &Turn| {
        rig.proxy
            .runner
            .plan(turn.clone())
            .map(|plan| (plan.decision, plan.posts))
    };

    let appended = plan(&rig.after(one.id(), "two")).unwrap();
    rig.tells(rig.after(one.id(), "two")).await;
    let forked = plan(&rig.after(one.id(), "three")).unwrap();
    let unknown = plan(&Turn {
        base: Base::Response(ResponseId([99; 16])),
        ..rig.turn("three")
    });

    assert_eq!(appended, (Decision::Appended, Some("two".to_owned())));
    assert_eq!(forked, (Decision::Forked, None));
    assert!(matches!(unknown.unwrap_err().error, Error::NoResponse(_)));
    assert_eq!(posted(&rig.proxy).len(), 1);
}
