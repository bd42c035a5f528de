//! Who is let in, on every route.

use http::StatusCode;

use crate::proxy::{Proxy, ROUTES, Setup, asking, request};

/// The status and code that each set of headers gets on a route.
async fn answers(proxy: &Proxy, route: (&str, &str), headers: &[(&str, &str)]) -> (u16, String) {
    let (method, path) = route;
    let headers = [headers, &[("content-type", "application/json")]].concat();
    let body = asking("hello").to_string();
    let reply = proxy.ask(request(method, path, &headers, &body)).await;
    (reply.status.as_u16(), reply.code().to_owned())
}

/// Headers, and the status and code that they get.
type Case<'a> = (&'a [(&'a str, &'a str)], u16, &'a str);

fn wants_a_key(path: &str) -> bool {
    !matches!(path, "/livez" | "/readyz" | "/nowhere")
}

#[tokio::test(start_paused = true)]
async fn a_held_key_is_used_for_known_callers_alone() {
    let proxy = Proxy::holding_a_key();
    let long = format!("Bearer {}", "k".repeat(513));
    let cases: [Case<'_>; 8] = [
        (&[], 401, "missing_api_key"),
        (
            &[("authorization", "Basic c2stY2FsbGVy")],
            401,
            "missing_api_key",
        ),
        (
            &[("authorization", "Bearer sk-wrong")],
            401,
            "invalid_api_key",
        ),
        (&[("api-key", "sk-upstream")], 401, "invalid_api_key"),
        (&[("authorization", &long)], 401, "invalid_api_key"),
        (
            &[
                ("authorization", "Bearer sk-caller"),
                ("api-key", "sk-other"),
            ],
            400,
            "invalid_value",
        ),
        (
            &[
                ("authorization", "Bearer sk-caller"),
                ("authorization", "Bearer sk-caller"),
            ],
            400,
            "invalid_value",
        ),
        (
            &[
                ("x-api-key", "sk-caller "),
                ("authorization", "bearer  sk-caller2"),
            ],
            400,
            "invalid_value",
        ),
    ];

    for route in ROUTES {
        if route == ("DELETE", "/v1/models") || !wants_a_key(route.1) {
            continue;
        }
        for (headers, status, code) in cases {
            let expected = (status, code.to_owned());
            assert_eq!(
                answers(&proxy, route, headers).await,
                expected,
                "{route:?} {headers:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_caller_is_let_in_by_any_spelling() {
    let proxy = Proxy::holding_a_key();
    let spellings = [
        ("authorization", "Bearer sk-caller"),
        ("authorization", "bearer sk-caller"),
        ("api-key", "sk-caller"),
        ("x-api-key", "sk-caller"),
    ];

    for spelling in spellings {
        let answer = answers(&proxy, ("GET", "/v1/models"), &[spelling]).await;
        assert_eq!(answer.0, 200, "{spelling:?}");
        let answer = answers(&proxy, ("POST", "/v1/chat/completions"), &[spelling]).await;
        assert_eq!(answer.0, 200, "{spelling:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_told_in_the_words_that_clients_match_on() {
    let proxy = Proxy::holding_a_key();

    let headers = [("authorization", "Bearer sk-wrong")];
    let reply = proxy.ask(request("GET", "/v1/models", &headers, "")).await;

    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.body["error"]["type"], "authentication_error");
    let message = reply.body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("Incorrect API key provided"));
    assert!(!reply.text.contains("sk-wrong"));
}

#[tokio::test(start_paused = true)]
async fn a_key_in_the_query_is_no_key() {
    let proxy = Proxy::holding_a_key();

    let reply = proxy
        .get("/v1/models?api-key=sk-caller&api_key=sk-caller")
        .await;

    assert_eq!(reply.code(), "missing_api_key");
}

#[tokio::test(start_paused = true)]
async fn passing_through_needs_some_key() {
    let proxy = Proxy::passing_through();

    let none = answers(&proxy, ("POST", "/v1/chat/completions"), &[]).await;
    let any = answers(
        &proxy,
        ("POST", "/v1/chat/completions"),
        &[("api-key", "sk-any")],
    )
    .await;

    assert_eq!(none, (401, "missing_api_key".to_owned()));
    assert_eq!(any.0, 200);
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_takes_any_key_or_none() {
    let proxy = Proxy::start(Setup::default());

    for headers in [
        &[][..],
        &[("authorization", "Bearer x")],
        &[("api-key", "y")],
        &[("authorization", "Bearer two words")],
    ] {
        let answer = answers(&proxy, ("POST", "/v1/chat/completions"), headers).await;
        assert_eq!(answer.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_refused_before_its_body_is_read() {
    let proxy = Proxy::holding_a_key();
    let mut endless = request("POST", "/v1/chat/completions", &[], "");
    *endless.body_mut() = axum::body::Body::from_stream(futures_util::stream::pending::<
        Result<bytes::Bytes, std::io::Error>,
    >());

    let reply = proxy.ask(endless).await;

    assert_eq!(reply.code(), "missing_api_key");
}
