//! Responses that nobody waits for.

use http::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Caller, PATH, decision, path, plain, said, status};
use crate::proxy::prompt;
use crate::talk::seconds;

fn later() -> serde_json::Value {
    json!({"background": true})
}

#[tokio::test(start_paused = true)]
async fn it_is_told_at_once_and_is_there_later() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let start = Instant::now();

    let reply = caller.asks(prompt::GROWS, later()).await;
    let took = start.elapsed();
    let early = caller.gets(&path(&reply)).await;
    sleep(seconds(60)).await;
    let late = caller.gets(&path(&reply)).await;

    assert!(took < seconds(5), "{took:?}");
    assert!(["queued", "in_progress"].contains(&status(&reply)));
    assert_eq!(reply.body["background"], true);
    assert_eq!(reply.body["output"], json!([]));
    assert_eq!(status(&early), "in_progress");
    assert_eq!((status(&late), said(&late)), ("completed", "one two"));
    assert_eq!(proxy.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_its_conversation_is_queued() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let fields = json!({"background": true, "conversation": "orders"});

    let first = caller.asks(prompt::GROWS, fields.clone()).await;
    let second = caller.asks("and then?", fields).await;
    let early = caller.gets(&path(&second)).await;
    sleep(seconds(90)).await;
    let late = caller.gets(&path(&second)).await;

    assert_eq!(status(&first), "in_progress");
    assert_eq!(status(&second), "queued");
    assert_eq!(status(&early), "queued");
    assert_eq!(status(&late), "completed");
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_refuses_at_once_is_told_at_once() {
    let proxy = plain();

    let reply = Caller::new(&proxy).asks(prompt::REFUSED, later()).await;

    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.code(), "upstream_refused");
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_later_is_there_as_failed() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let reply = caller.asks(prompt::FAILS_HALFWAY, later()).await;
    sleep(seconds(60)).await;
    let found = caller.gets(&path(&reply)).await;

    assert_eq!(status(&found), "failed");
    assert_eq!(found.body["error"]["code"], "server_error");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cancelled_says_so_and_its_thread_is_busy_until_its_run_ends() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let fields = json!({"background": true, "conversation": "orders"});
    let reply = caller.asks(prompt::GROWS, fields.clone()).await;

    let cancel = format!("{}/cancel", path(&reply));
    let cancelled = caller.posts(&cancel, &json!({})).await;
    let again = caller.posts(&cancel, &json!({})).await;
    let found = caller.gets(&path(&reply)).await;
    let next = caller.asks("and then?", fields).await;
    sleep(seconds(90)).await;
    let late = caller.gets(&path(&reply)).await;
    let next = caller.gets(&path(&next)).await;

    for told in [&cancelled, &again, &found, &late] {
        assert_eq!(told.status, StatusCode::OK);
        assert_eq!(status(told), "cancelled");
        assert_eq!(told.body["output"], json!([]));
    }
    assert_eq!(status(&next), "completed");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_not_cancelled_any_more() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("hi", later()).await;
    sleep(seconds(30)).await;

    let cancel = format!("{}/cancel", path(&reply));
    let told = caller.posts(&cancel, &json!({})).await;

    assert_eq!((status(&told), said(&told)), ("completed", "hello"));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_waited_for_cannot_be_cancelled() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("hi", json!({})).await;

    let cancel = format!("{}/cancel", path(&reply));
    let told = caller.posts(&cancel, &json!({})).await;

    assert_eq!(told.status, StatusCode::BAD_REQUEST);
    assert_eq!(told.body["error"]["type"], "invalid_request_error");
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_to_one_that_is_cancelled_is_told() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let reply = caller.asks(prompt::GROWS, later()).await;
    let id = super::id(&reply).to_owned();

    let cancelling = async {
        sleep(seconds(5)).await;
        caller
            .posts(&format!("{PATH}/{id}/cancel"), &json!({}))
            .await
    };
    let (events, _) = tokio::join!(caller.follows(&id, None), cancelling);

    assert_eq!(events.last()["response"]["status"], "cancelled");
    assert!(!events.broken);
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_is_another_response() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let first = caller.asks("hi", later()).await;
    let second = caller.asks("hi", later()).await;

    assert_ne!(first.body["id"], second.body["id"]);
    assert_eq!(decision(&second), "created");
    assert_eq!(proxy.sandbox.posts().len(), 2);
}
