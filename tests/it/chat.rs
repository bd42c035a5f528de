//! One question, one answer.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::proxy::{Proxy, Setup, asking, prompt, request};

#[tokio::test(start_paused = true)]
async fn an_answer_says_what_it_belongs_to() {
    let proxy = Proxy::start(Setup::default());
    let mut body = asking("hello");
    body["temperature"] = json!(0.2);

    let headers = [
        ("content-type", "application/json"),
        ("x-conversation-id", "orders"),
        ("x-request-id", "mine-1"),
    ];
    let reply = proxy
        .ask(request(
            "POST",
            "/v1/chat/completions",
            &headers,
            &body.to_string(),
        ))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body["choices"][0]["message"]["content"], "hello");
    assert!(reply.body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(reply.header("x-conversation-id"), "orders");
    assert_eq!(reply.header("x-conversation-decision"), "created");
    assert_eq!(reply.header("x-request-id"), "mine-1");
    assert_eq!(reply.header("x-ignored-params"), "temperature");
    assert_eq!(reply.header("x-usage-source"), "estimated");
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
    assert!(reply.headers.contains_key("openai-processing-ms"));
}

#[tokio::test(start_paused = true)]
async fn every_prefix_leads_to_the_same_route() {
    let proxy = Proxy::start(Setup::default());

    for path in [
        "/chat/completions",
        "/v1/chat/completions",
        "/openai/v1/chat/completions",
    ] {
        let reply = proxy.post_json(path, &asking("hello")).await;

        assert_eq!(reply.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_the_decision_and_posts_nothing() {
    let proxy = Proxy::start(Setup::default());
    let headers = [
        ("content-type", "application/json"),
        ("x-dry-run", "decision"),
    ];
    let body = asking("hello").to_string();

    let reply = proxy
        .ask(request("POST", "/v1/chat/completions", &headers, &body))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body["decision"], "created");
    assert_eq!(reply.body["posts"], "hello");
    assert_eq!(reply.header("x-conversation-decision"), "created");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_an_unknown_kind_is_no_run() {
    let proxy = Proxy::start(Setup::default());
    let headers = [("content-type", "application/json"), ("x-dry-run", "yes")];
    let body = asking("hello").to_string();

    let reply = proxy
        .ask(request("POST", "/v1/chat/completions", &headers, &body))
        .await;

    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.body["error"]["param"], "X-Dry-Run");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_told_with_the_place_and_a_reason_to_come_back() {
    let proxy = Proxy::start(Setup::default());
    let headers = [
        ("content-type", "application/json"),
        ("x-request-timeout", "60"),
    ];
    let body = asking(prompt::SILENT).to_string();

    let reply = proxy
        .ask(request("POST", "/v1/chat/completions", &headers, &body))
        .await;
    let again = proxy
        .ask(request("POST", "/v1/chat/completions", &headers, &body))
        .await;

    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(reply.code(), "run_timeout");
    assert_eq!(reply.header("x-should-retry"), "true");
    assert!(!reply.header("x-conversation-id").is_empty());
    assert_eq!(reply.header("x-conversation-decision"), "created");
    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(proxy.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_is_delivered() {
    let proxy = Proxy::start(Setup::default());

    let first = proxy.chat("hello").await;
    let second = proxy.chat("hello").await;

    assert_eq!(first.header("x-conversation-decision"), "created");
    assert_eq!(second.header("x-conversation-decision"), "created");
    assert_eq!(proxy.sandbox.posts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_has_hung_up() {
    let proxy = Proxy::start(Setup::default());

    let left = tokio::time::timeout(Duration::from_secs(1), proxy.chat("hello")).await;
    let waiting = proxy.metrics();
    let again = proxy.chat("hello").await;

    assert!(left.is_err());
    assert!(waiting.contains("waiting_callers 0\n"));
    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(proxy.sandbox.posts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_is_still_owed() {
    let proxy = Proxy::start(Setup::default());
    let body = asking("hello").to_string();
    let headers = [("content-type", "application/json")];

    let response = proxy
        .send(request("POST", "/v1/chat/completions", &headers, &body))
        .await;
    drop(response);
    let again = proxy.chat("hello").await;

    assert_eq!(again.header("x-conversation-decision"), "attached");
    assert_eq!(again.body["choices"][0]["message"]["content"], "hello");
}

#[tokio::test(start_paused = true)]
async fn models_are_listed_and_found_by_ids_with_slashes() {
    let mut setup = Setup::default();
    setup.config.models.aliases = vec!["vendor/model".to_owned()];
    setup.config.models.strict = true;
    let proxy = Proxy::start(setup);

    let list = proxy.get("/v1/models").await;
    let found = proxy.get("/v1/models/vendor/model").await;
    let missing = proxy.get("/v1/models/vendor/other").await;

    assert_eq!(list.body["data"][0]["id"], "vendor/model");
    assert_eq!(found.body["id"], "vendor/model");
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.code(), "model_not_found");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_upstream_refused_degrades_readiness_until_it_is_taken() {
    let proxy = Proxy::holding_a_key();
    let ask = async |text: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", "Bearer sk-caller"),
        ];
        let body = asking(text).to_string();
        proxy
            .ask(request("POST", "/v1/chat/completions", &headers, &body))
            .await
    };

    let refused = ask(prompt::KEY_REFUSED).await;
    let degraded = proxy.get("/readyz").await;
    // An answer that is made here shows nothing of the key.
    let title = "Provide a concise, 5-word-or-less title for the conversation: hello";
    ask(title).await;
    let degraded_still = proxy.get("/readyz").await;
    ask("hello").await;
    let ready = proxy.get("/readyz").await;

    assert_eq!(refused.status, StatusCode::BAD_GATEWAY);
    assert_eq!(refused.code(), "upstream_key_refused");
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(degraded.status, StatusCode::OK);
    assert_eq!(
        degraded.text,
        r#"{"status":"degraded","reason":"upstream_key_refused"}"#
    );
    assert_eq!(degraded_still.text, degraded.text);
    assert_eq!(ready.text, r#"{"status":"ok"}"#);
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_route_and_class() {
    let mut setup = Setup::default();
    setup.config.models.strict = true;
    let proxy = Proxy::start(setup);

    proxy.chat("hello").await;
    proxy.get("/v1/models/none").await;
    proxy.get("/no/such/route").await;

    let metrics = proxy.get("/metrics").await.text;
    for line in [
        r#"requests_total{route="/chat/completions",class="2xx"} 1"#,
        r#"requests_total{route="/models/{id}",class="4xx"} 1"#,
        r#"requests_total{route="other",class="4xx"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}
