//! Proxies that the environment names: nothing goes through them.

use std::net::TcpListener;

use crate::binary::{Program, exchange};

#[test]
fn a_proxy_that_the_environment_names_sees_nothing() {
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let url: &str = format!("http://{}", canary.local_addr().unwrap()).leak();
    let upstream = Program::new().serve(&["sandbox"]);
    let program = Program::with(&[
        ("HTTP_PROXY", url),
        ("http_proxy", url),
        ("HTTPS_PROXY", url),
        ("https_proxy", url),
        ("ALL_PROXY", url),
        ("all_proxy", url),
        ("CHATURDATA_PROXY_PACE__INTERVAL", "30ms"),
        ("CHATURDATA_PROXY_PACE__MIN_GAP", "20ms"),
    ]);
    let upstream_url = format!("http://{}", upstream.address);
    let proxy = program.serve(&["--upstream-url", &upstream_url]);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Revenue by region?"}]}"#;

    let answer = exchange(
        proxy.address,
        &format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer sk\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(canary.accept().is_err(), "the canary was called");
}
