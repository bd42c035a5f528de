//! Long requests do not hold up the threads that serve everyone.

use std::fs;
use std::time::Duration;

use chaturdata_proxy::run::tokens::estimate;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Setup};

/// Bytes of one request.
const LONG: usize = 4 << 20;

/// How long this thread has been at work. `None` where the system does not tell.
fn worked() -> Option<Duration> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = told.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// How long this thread, which serves everyone, is at work on one request.
async fn serving(headers: &[(&str, &str)], messages: &Value) -> Option<Duration> {
    let proxy = Proxy::start(Setup::default());
    let body = json!({"model": "chaturdata", "messages": messages}).to_string();
    let json = ("content-type", "application/json");
    let headers = [&[json], headers].concat();
    let request = crate::proxy::request("POST", "/v1/chat/completions", &headers, &body);
    let before = worked()?;
    let response = proxy.send(request).await;
    let worked = worked()? - before;
    assert_eq!(response.status(), 200);
    Some(worked)
}

fn said(role: &str, text: &str) -> Value {
    json!({"role": role, "content": text})
}

#[tokio::test(start_paused = true)]
async fn long_requests_are_read_and_hashed_apart() {
    let text = "Which of these rows is it, then? ".repeat(LONG / 33);
    let part = text.get(..LONG / 256).unwrap();
    let history: Vec<Value> = (0..256)
        .map(|n| said(["user", "assistant"][n % 2], part))
        .chain([said("user", "And now?")])
        .collect();
    let Some(before) = worked() else {
        return;
    };
    // The least of all that is to be done with a text.
    estimate(&text);
    let least = worked().unwrap() - before;

    for (what, headers, messages) in [
        ("a long history", &[][..], json!(history)),
        ("a dry run", &[("x-dry-run", "decision")], json!(history)),
    ] {
        let worked = serving(headers, &messages).await.unwrap();

        assert!(worked < least / 4, "{what}: {worked:?} of {least:?}");
    }
}
