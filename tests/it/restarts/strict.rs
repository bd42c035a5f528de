//! A disk that takes nothing more: turns go on, or are refused before anything is posted.

use std::sync::Arc;

use chaturdata_proxy::store::backend::{Backend, Flushed, Nowhere, Write};

use super::{Home, talk};
use crate::proxy::{Proxy, Setup};
use crate::talk::{decision, said, told};

#[tokio::test(start_paused = true)]
async fn turns_go_on_in_memory_unless_the_settings_are_strict() {
    let home = Home::saying("yes", 1);
    home.shelf.0.lock().unwrap().has_failed = true;
    let proxy = home.start();
    let mut talk = talk(&proxy);

    let one = talk.says("one").await;
    let two = talk.says("two").await;

    assert_eq!([said(&one), said(&two)], ["yes", "yes"]);
    assert_eq!(decision(&two), "appended");
}

#[tokio::test(start_paused = true)]
async fn strict_settings_refuse_a_turn_that_cannot_be_remembered_before_it_is_posted() {
    let home = Home::saying("yes", 1);
    home.shelf.0.lock().unwrap().has_failed = true;
    let mut setup = Setup::default();
    setup.config.store.strict = true;
    let proxy = home.start_with(setup);

    let refused = talk(&proxy).says("one").await;

    assert_eq!(
        told(&refused),
        "503 server_error state_unwritable retry-after=30"
    );
    assert_eq!(home.sandbox.posts().len(), 0);
}

/// Full but for what is held in reserve.
#[derive(Debug)]
struct NearlyFull;

impl Backend for NearlyFull {
    fn queue(&self, unit: Vec<Write>) {
        Nowhere.queue(unit);
    }

    fn flushed(&self) -> Flushed<'_> {
        Nowhere.flushed()
    }

    fn is_degraded(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn strict_settings_leave_the_reserve_to_the_turns_under_way() {
    let mut setup = Setup {
        state: Arc::new(NearlyFull),
        ..Setup::default()
    };
    setup.config.store.strict = true;
    let proxy = Proxy::start(setup);

    let refused = proxy.chat("one").await;

    assert_eq!(
        told(&refused),
        "503 server_error state_unwritable retry-after=30"
    );
    assert_eq!(proxy.sandbox.posts().len(), 0);
}
