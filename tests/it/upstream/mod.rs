//! The upstream, simulated and real: what each makes of every answer.

#![expect(
    clippy::indexing_slicing,
    reason = "an index that is not there is a failed test"
)]

mod chaturdata;
mod connections;
mod contract;
mod demo;
mod large;
mod peer;
mod simulated;
mod typed;
mod wakes;

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::upstream::{NewMessage, ThreadId};

fn key() -> Secret {
    Secret::new("sk-test")
}

fn opening(text: &str) -> NewMessage {
    NewMessage {
        thread: None,
        text: text.to_owned(),
    }
}

fn following(thread: &ThreadId, text: &str) -> NewMessage {
    NewMessage {
        thread: Some(thread.clone()),
        text: text.to_owned(),
    }
}
