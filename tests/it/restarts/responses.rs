//! Responses and conversations outlive the process: their answers are in their threads.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Home;
use crate::responses::{Caller, decision, id, path, posted, said, status};
use crate::talk::seconds;

#[tokio::test(start_paused = true)]
async fn a_response_in_the_background_is_finished_by_the_next_process() {
    let mut home = Home::saying("forty-two", 60);
    let proxy = home.start();
    let later = json!({"background": true});
    let reply = Caller::new(&proxy).asks("how much?", later).await;
    let path = path(&reply);

    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let early = caller.gets(&path).await;
    sleep(seconds(120)).await;
    let late = caller.gets(&path).await;

    assert_eq!(status(&reply), "in_progress");
    assert_eq!(status(&early), "in_progress");
    assert_eq!((status(&late), said(&late)), ("completed", "forty-two"));
    assert_eq!(late.body["background"], true);
    assert_eq!(home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_was_told_is_told_again_from_its_thread() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    let fields = json!({"instructions": "Be kind.", "metadata": {"a": "b"}});
    let reply = Caller::new(&proxy).asks("how much?", fields).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let found = caller.gets(&path(&reply)).await;
    let events = caller.follows(id(&reply), None).await;
    let items = caller.gets(&format!("{}/input_items", path(&reply))).await;

    assert_eq!((status(&found), said(&found)), ("completed", "forty-two"));
    for same in ["id", "created_at", "model", "output", "status"] {
        assert_eq!(found.body[same], reply.body[same], "{same}");
    }
    // What was said of it beside is not kept.
    assert_eq!(found.body["instructions"], Value::Null);
    assert_eq!(found.body["metadata"], json!({}));
    assert_eq!(items.body["data"], json!([]));
    assert_eq!(events.last()["response"], found.body);
    assert_eq!(home.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_taken_up_after_a_restart_tells_how_it_ended() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    let events = Caller::new(&proxy).streams("how much?", json!({})).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let rest = Caller::new(&proxy).follows(events.id(), Some(99)).await;

    assert_eq!(rest.names(), ["completed"]);
    let text = &rest.last()["response"]["output"][0]["content"][0]["text"];
    assert_eq!(text, "forty-two");
}

#[tokio::test(start_paused = true)]
async fn what_follows_on_a_response_goes_on_in_its_thread() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    let first = Caller::new(&proxy).asks("one", json!({})).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let follow = json!({"previous_response_id": id(&first)});
    let second = caller.asks("two", follow.clone()).await;
    let third = caller.asks("three", follow).await;

    assert_eq!(decision(&second), "appended");
    assert_eq!(decision(&third), "forked");
    let posts = posted(&proxy);
    assert_eq!(posts[..2], ["one", "two"]);
    assert!(posts[2].contains("User: one\n\nAssistant: forty-two"));
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_stays_deleted() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("one", json!({})).await;
    let beside = caller.asks("two", json!({"conversation": "orders"})).await;
    caller.deletes(&path(&reply)).await;
    caller.deletes("/v1/conversations/orders").await;

    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    for gone in [
        caller.gets(&path(&reply)).await,
        caller.gets(&path(&beside)).await,
        caller.gets("/v1/conversations/orders").await,
    ] {
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.text);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_stays_cancelled() {
    let mut home = Home::saying("forty-two", 60);
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("one", json!({"background": true})).await;
    let cancel = format!("{}/cancel", path(&reply));
    caller.posts(&cancel, &json!({})).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let early = caller.gets(&path(&reply)).await;
    sleep(seconds(120)).await;
    let late = caller.gets(&path(&reply)).await;

    assert_eq!([status(&early), status(&late)], ["cancelled"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_there_with_what_its_thread_shows() {
    let mut home = Home::saying("forty-two", 10);
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let noted = json!({
        "metadata": {"topic": "orders"},
        "items": [{"role": "user", "content": "waits"}],
    });
    let empty = caller.posts("/v1/conversations", &noted).await;
    let empty = format!("/v1/conversations/{}", empty.body["id"].as_str().unwrap());
    caller.asks("one", json!({"conversation": "orders"})).await;
    let items = "/v1/conversations/orders/items";
    let before = caller.gets(items).await;

    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);
    let after = caller.gets(items).await;
    let found = caller.gets(&empty).await;
    let waiting = caller.gets(&format!("{empty}/items")).await;

    assert_eq!(before.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(after.body, before.body);
    assert_eq!(found.status, StatusCode::OK);
    // Neither is on disk: both are what callers wrote.
    assert_eq!(found.body["metadata"], json!({}));
    assert_eq!(waiting.body["data"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_could_check_is_not_told() {
    let mut home = Home::saying("not JSON", 60);
    let proxy = home.start();
    let json = json!({"background": true, "text": {"format": {"type": "json_object"}}});
    let reply = Caller::new(&proxy).asks("how much?", json).await;
    home.kill(proxy).await;
    let proxy = home.start();
    let caller = Caller::new(&proxy);

    let under_way = caller.gets(&path(&reply)).await;
    sleep(seconds(120)).await;
    let found = caller.gets(&path(&reply)).await;

    assert_eq!(status(&under_way), "in_progress");
    assert_eq!(status(&found), "failed", "{}", found.text);
    assert_eq!(found.body["output"], json!([]));
}
