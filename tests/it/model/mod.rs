//! The store, the resolver and the small locks against plain models of what they promise, in random orders.

mod expected;
mod locks;
mod many;
mod ops;
mod resolver;
mod store;

use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::{Builder, Runtime};

/// So many cases; five times as many where there is time.
fn cases(count: u32) -> TestRunner {
    let times = if std::env::var_os("FULL").is_some() {
        5
    } else {
        1
    };
    TestRunner::new(Config {
        cases: count * times,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    })
}

/// Time stands still unless somebody waits for it.
fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}
