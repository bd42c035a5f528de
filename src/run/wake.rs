//! What waited while the machine slept is done once it is awake.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::info;

use super::live::Runner;
use crate::clock::{Looked, Moment};

/// How soon it is noticed that the machine has woken.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Tells whoever waits that the machine has woken.
#[derive(Debug, Default)]
pub struct Wakings(watch::Sender<()>);

impl Wakings {
    /// Ready once the machine wakes from a sleep that began after this was called.
    pub fn next(&self) -> impl Future<Output = ()> + use<> {
        let mut woken = self.0.subscribe();
        async move {
            // The sender lives as long as the runs do.
            let _ = woken.changed().await;
        }
    }
}

impl Runner {
    /// Looks at the clocks for as long as it is polled: has every run read its thread soon when the
    /// machine has slept, and forgets or makes small what has not been used for a while.
    pub async fn watch_clocks(&self, wall: impl Fn() -> Moment) -> Infallible {
        let mut looked = Looked::at(wall());
        loop {
            sleep(LOOKS_EVERY).await;
            if looked.slept(wall()) {
                info!("the machine has slept, or its clock was set: runs are looked at");
                self.0.calls.wakings.0.send_replace(());
            }
            self.settle().await;
        }
    }

    /// Forgets or makes small what has not been used for a while.
    pub async fn settle(&self) {
        self.0.store.settle().await;
        self.0.ledger.settle().await;
    }
}
