//! What web pages may do: nothing, unless their origin is listed.

use http::StatusCode;

use crate::proxy::{Proxy, ROUTES, Setup, asking, request};

fn listing(origins: &[&str]) -> Proxy {
    let mut setup = Setup::default();
    setup.config.server.allowed_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
    Proxy::start(setup)
}

#[tokio::test(start_paused = true)]
async fn a_foreign_host_is_refused_on_every_route() {
    let proxy = Proxy::holding_a_key();

    for (method, path) in ROUTES {
        let headers = [("host", "evil.test"), ("authorization", "Bearer sk-caller")];
        let reply = proxy.ask(request(method, path, &headers, "")).await;

        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(reply.code(), "host_not_allowed", "{method} {path}");
        let message = reply.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("server.allowed_hosts"));
        assert!(message.contains("CHATURDATA_PROXY_SERVER__ALLOWED_HOSTS"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_origin_is_refused_on_every_route() {
    let proxy = listing(&["https://chat.example"]);
    let signs: [&[(&str, &str)]; 4] = [
        &[("origin", "https://evil.test")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ];

    for (method, path) in ROUTES {
        for sign in signs {
            let reply = proxy.ask(request(method, path, sign, "")).await;

            assert_eq!(
                reply.status,
                StatusCode::FORBIDDEN,
                "{method} {path} {sign:?}"
            );
            assert_eq!(
                reply.code(),
                "origin_not_allowed",
                "{method} {path} {sign:?}"
            );
            assert!(!reply.headers.contains_key("access-control-allow-origin"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_allowed_by_configuration() {
    let mut setup = Setup::default();
    setup.config.server.allowed_hosts = vec!["proxy".to_owned()];
    let proxy = Proxy::start(setup);

    let reply = proxy
        .ask(request("GET", "/livez", &[("host", "Proxy:8484")], ""))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn without_listed_origins_there_is_no_cors() {
    let proxy = listing(&[]);
    let own = [
        ("origin", "http://localhost:8484"),
        ("content-type", "application/json"),
    ];
    let body = asking("hello").to_string();

    let reply = proxy
        .ask(request("POST", "/v1/chat/completions", &own, &body))
        .await;

    assert_eq!(reply.status, StatusCode::OK, "a page of our own may ask");
    let is_cors = |name: &http::HeaderName| name.as_str().starts_with("access-control");
    assert!(!reply.headers.keys().any(is_cors));
}

#[tokio::test(start_paused = true)]
async fn a_listed_origin_is_answered_exactly_and_without_a_key() {
    let proxy = listing(&["https://chat.example", "https://other.example"]);
    let preflight = [
        ("origin", "https://chat.example"),
        ("sec-fetch-site", "cross-site"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,x-stainless-lang",
        ),
    ];

    for (_, path) in ROUTES {
        let reply = proxy.ask(request("OPTIONS", path, &preflight, "")).await;

        assert_eq!(reply.status, StatusCode::OK, "{path}");
        assert_eq!(
            reply.header("access-control-allow-origin"),
            "https://chat.example"
        );
        assert_eq!(
            reply.header("access-control-allow-headers"),
            "authorization,x-stainless-lang"
        );
        assert!(
            reply
                .header("access-control-allow-methods")
                .contains("POST")
        );
        assert!(
            !reply
                .headers
                .contains_key("access-control-allow-credentials")
        );
        assert!(
            !reply
                .headers
                .contains_key("access-control-allow-private-network")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_listed_page_may_read_our_headers() {
    let proxy = listing(&["https://chat.example"]);
    let headers = [
        ("origin", "https://chat.example"),
        ("sec-fetch-site", "cross-site"),
        ("content-type", "application/json"),
    ];
    let body = asking("hello").to_string();

    let reply = proxy
        .ask(request("POST", "/v1/chat/completions", &headers, &body))
        .await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://chat.example"
    );
    let exposed = reply.header("access-control-expose-headers");
    for name in [
        "x-conversation-id",
        "x-conversation-decision",
        "x-request-id",
        "x-ignored-params",
        "x-usage-source",
        "retry-after",
        "retry-after-ms",
        "openai-processing-ms",
        "x-should-retry",
    ] {
        assert!(exposed.contains(name), "{name} is not in {exposed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_of_a_page_posts_nothing() {
    let proxy = Proxy::start(Setup::default());
    let body = asking("hello").to_string();

    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let headers = [("content-type", media_type)];
        let reply = proxy
            .ask(request("POST", "/v1/chat/completions", &headers, &body))
            .await;

        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}
