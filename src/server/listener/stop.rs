//! How serving ends: first no more connections, then no more waiting.

use crate::signal::Signal;

/// The two signals of an orderly end. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    draining: Signal,
    closing: Signal,
}

impl Stop {
    /// Begins to drain when `signal` is given.
    pub fn on(signal: Signal) -> Self {
        Self {
            draining: signal,
            closing: Signal::default(),
        }
    }

    /// Ends when no more connections are taken.
    pub async fn draining(&self) {
        self.draining.given().await;
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_given()
    }

    /// Ends when whoever still waits for an answer has to be told that there will be none.
    pub async fn closing(&self) {
        self.closing.given().await;
    }

    /// Time is up for those who wait.
    pub fn close(&self) {
        self.closing.give();
    }
}
