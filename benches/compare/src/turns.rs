//! Turns of one conversation within this process, to count what one of them costs: run under
//! callgrind with N and with 2N of them, the difference is that of N turns.

use std::io;
use std::sync::Arc;

use chaturdata_proxy::config::{Config, Strategy};
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::store::Restored;
use chaturdata_proxy::store::backend::Nowhere;

use crate::drive::Conversation;
use crate::rig::{AtOnce, Memory, Rig};
use crate::wire;

/// Turns before which everything has its size.
const WARM: usize = 100;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    turns: usize,
    /// Messages before each prompt
    #[arg(long, default_value_t = 20)]
    history: usize,
}

pub async fn run(options: Options) -> io::Result<()> {
    let memory = Memory {
        backend: Arc::new(Nowhere),
        salt: Salt::fixed([1; 32]),
        restored: Restored::default(),
    };
    let mut config = Config::default();
    // One that is learned makes its plans by the clock.
    config.pace.strategy = Strategy::Fixed;
    let rig = Rig::new(config, AtOnce::new(), memory);
    let mut conversation = Conversation::new("turns".to_owned(), options.history, 500);
    for turn in 0..WARM + options.turns {
        let prompt = conversation.prompt(500);
        let reply = rig.ask("turns", conversation.body(&prompt), false).await?;
        let expected = if turn == 0 { "replayed" } else { "appended" };
        if reply.decision != expected {
            return Err(io::Error::other(format!(
                "{expected}, not {}",
                reply.decision
            )));
        }
        conversation.append(&prompt, &wire::content(&reply.body));
    }
    rig.shut_down().await;
    Ok(())
}
