//! Turns wait for each other between their stages, but not for those that sleep until their next poll.

use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use futures_util::FutureExt;
use tokio::time::sleep;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, seconds};

/// Two runs, some time after they were asked for: they are polled after 2 s, and end after 4.
async fn two_runs(proxy: &Proxy, after: u64) {
    let run = Behaviour::says("there", seconds(4));
    proxy.sandbox.set_script(Script::always(run));
    let (mut one, mut other) = (Talk::new(proxy), Talk::new(proxy));
    let both = async { tokio::join!(one.says("hello"), other.says("good day")) };
    tokio::select! {
        _ = both => {}
        () = sleep(seconds(after)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_waits_for_none_that_sleeps_until_its_next_poll() {
    let proxy = Proxy::start(Setup::default());

    two_runs(&proxy, 1).await;

    assert_eq!(proxy.runner.0.calls.dozing(), 2);
    assert_eq!(proxy.runner.next_stage().now_or_never(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_sleeps_no_longer() {
    for after in [1, 600] {
        let proxy = Proxy::start(Setup::default());
        two_runs(&proxy, after).await;

        proxy.runner.shut_down().await;

        assert_eq!(proxy.runner.0.calls.dozing(), 0, "{after}");
    }
}
