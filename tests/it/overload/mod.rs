//! More than fits: who is let in, who is told to come back, and what the upstream is spared.

mod breaker;
mod budget;
mod crowded;
mod descriptors;
mod pauses;
mod seats;
mod storms;

use axum::body::Body;
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::callers::CallerKeys;
use http::Request;

use crate::proxy::{Proxy, Reply, Setup, asking, request};

/// A proxy that holds a key, with the settings that are to be tried, and with callers `a`, `b`, ..
fn shared(change: impl FnOnce(&mut Setup)) -> Proxy {
    let callers = ('a'..='k').map(|name| {
        let key = Secret::new(format!("sk-{name}"));
        (name.to_string(), key)
    });
    let mut setup = Setup {
        access: Access::Held {
            key: Secret::new("sk-upstream"),
            callers: CallerKeys::of(callers),
            anyone: false,
        },
        ..Setup::default()
    };
    change(&mut setup);
    Proxy::start(setup)
}

fn question(caller: &str, text: &str) -> Request<Body> {
    let key = format!("Bearer sk-{caller}");
    let headers = [
        ("content-type", "application/json"),
        ("authorization", key.as_str()),
    ];
    request(
        "POST",
        "/v1/chat/completions",
        &headers,
        &asking(text).to_string(),
    )
}

async fn asks(proxy: &Proxy, caller: &str, text: &str) -> Reply {
    proxy.ask(question(caller, text)).await
}

/// What the proxy counts under this name, labels included.
fn counted(proxy: &Proxy, series: &str) -> u64 {
    let metrics = proxy.metrics();
    let wanted = format!("chaturdata_proxy_{series} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&wanted));
    line.map_or(0, |value| value.parse().unwrap())
}
