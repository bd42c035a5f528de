//! How serving ends: first no more connections, then no more waiting.

use tokio_util::sync::CancellationToken;

/// The two signals of an orderly end. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    draining: CancellationToken,
    closing: CancellationToken,
}

impl Stop {
    /// Begins to drain when `signal` is given.
    pub fn on(signal: CancellationToken) -> Self {
        Self {
            draining: signal,
            closing: CancellationToken::new(),
        }
    }

    /// Ends when no more connections are taken.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Ends when whoever still waits for an answer has to be told that there will be none.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Time is up for those who wait.
    pub fn close(&self) {
        self.closing.cancel();
    }
}
