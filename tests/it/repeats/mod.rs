//! The same request once more: what it attaches to, for how long, and what it is told.

mod attaching;
mod deadlines;
mod keyed;
mod standing;

use axum::body::Body;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use http::Request;
use tokio::time::timeout;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, first, seconds};

/// The first run says `first answer`, all others `second answer`, each after so many seconds.
fn two_answers(after: u64) -> Proxy {
    let says = |text| Behaviour::says(text, seconds(after));
    scripted(first(1, says("first answer"), says("second answer")))
}

fn scripted(script: Script) -> Proxy {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(script);
    proxy
}

fn posts(proxy: &Proxy) -> usize {
    proxy.sandbox.posts().len()
}

/// The request of all these tests, as a caller without names sends it.
fn asked(proxy: &Proxy) -> Request<Body> {
    Talk::new(proxy).request("how much?", false)
}

/// As above, under one more header.
fn asked_with(proxy: &Proxy, name: &'static str, value: &str) -> Request<Body> {
    let talk = Talk::new(proxy).header(name, value);
    talk.request("how much?", false)
}

/// The request once more, as an SDK marks its retries.
fn retried(proxy: &Proxy) -> Request<Body> {
    asked_with(proxy, "x-stainless-retry-count", "1")
}

/// Sends it, and hangs up after so many seconds without an answer.
async fn hang_up(proxy: &Proxy, request: Request<Body>, after: u64) {
    let waited = timeout(seconds(after), proxy.send(request)).await;
    assert!(waited.is_err(), "answered before the hang-up");
}
