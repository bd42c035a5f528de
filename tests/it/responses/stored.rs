//! Responses that are there: told again, and deleted.

use http::StatusCode;
use serde_json::json;
use tokio::time::sleep;

use super::{Caller, id, path, plain, said, status};
use crate::proxy::{Proxy, Setup, prompt};
use crate::talk::seconds;

#[tokio::test(start_paused = true)]
async fn a_response_is_told_again_as_it_was() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let fields = json!({"instructions": "Be kind.", "metadata": {"a": "b"}, "user": "u"});

    let reply = caller.asks("hi", fields).await;
    let found = caller.gets(&path(&reply)).await;

    assert_eq!(found.body, reply.body);
    for name in ["x-conversation-id", "x-usage-source"] {
        assert_eq!(found.header(name), reply.header(name));
    }
    assert_eq!(found.header("x-conversation-decision"), "attached");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_left_memory_is_read_from_its_thread() {
    let mut setup = Setup::default();
    setup.config.run.keep_answers = seconds(60);
    let proxy = Proxy::start(setup);
    let caller = Caller::new(&proxy);

    let reply = caller.asks("hi", json!({})).await;
    sleep(seconds(3600)).await;
    // Whatever comes next has it looked what is too old.
    caller.asks("another", json!({})).await;
    let found = caller.gets(&path(&reply)).await;
    let events = caller.follows(id(&reply), None).await;

    assert_eq!((status(&found), said(&found)), ("completed", "hello"));
    assert_eq!(found.body["output"], reply.body["output"]);
    assert_eq!(events.last()["response"]["status"], "completed");
    assert_eq!(proxy.sandbox.posts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_under_way_is_not_waited_for() {
    let proxy = plain();
    let caller = Caller::new(&proxy);

    let reply = caller
        .asks(prompt::SILENT, json!({"background": true}))
        .await;
    let start = tokio::time::Instant::now();
    let found = caller.gets(&path(&reply)).await;

    assert_eq!(status(&found), "in_progress");
    assert_eq!(found.body["output"], json!([]));
    assert!(start.elapsed() < seconds(1));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_is_gone_and_its_thread_goes_on() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let reply = caller.asks("one", json!({"conversation": "orders"})).await;

    let deleted = caller.deletes(&path(&reply)).await;
    let found = caller.gets(&path(&reply)).await;
    let again = caller.deletes(&path(&reply)).await;
    let fields = json!({"previous_response_id": id(&reply)});
    let following = caller.asks("two", fields).await;
    let beside = caller.asks("two", json!({"conversation": "orders"})).await;

    let expected = json!({"id": id(&reply), "object": "response", "deleted": true});
    assert_eq!(deleted.body, expected);
    assert_eq!(deleted.header("x-conversation-id"), "orders");
    for gone in [&found, &again, &following] {
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        assert_eq!(gone.code(), "response_not_found");
    }
    assert_eq!(beside.header("x-conversation-decision"), "appended");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_fetched_is_owed_to_nobody() {
    let proxy = plain();
    let caller = Caller::new(&proxy);
    let streamed = caller.streams("hi", json!({"background": true})).await;
    let path = format!("/v1/responses/{}", streamed.id());

    let found = caller.gets(&path).await;
    let again = caller.gets(&path).await;
    let asked = caller.asks("hi", json!({"background": true})).await;

    assert_eq!(said(&found), "hello");
    assert_eq!(said(&again), "hello");
    assert_eq!(asked.header("x-conversation-decision"), "created");
}
