//! Opens what outlives the program, and closes it behind those who use it.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::info;

use crate::clock::{Clock, Moment};
use crate::config::{self, Config, StoreKind};
use crate::conversation::salt::Salt;
use crate::store::Restored;
use crate::store::backend::{Backend, Nowhere};
use crate::store::disk::{Disk, SCHEMA, Serving};

/// What an earlier process has left, and where this one leaves what it learns.
pub struct State {
    pub backend: Arc<dyn Backend>,
    pub salt: Salt,
    pub restored: Restored,
    pub clock: Clock,
    pub keeper: Keeper,
}

/// What writes the state down as long as the program goes on.
pub struct Keeper(Option<(Disk, Serving)>);

/// Opens the state that the settings name. Blocks while it is read.
pub fn open(config: &Config) -> Result<State> {
    match config.store.kind {
        StoreKind::Disk => on_disk(dir(config)?),
        StoreKind::Memory => in_memory(),
    }
}

/// The folder that the state is in.
pub fn dir(config: &Config) -> Result<&Path, config::Error> {
    let nowhere = "state.dir: this platform names no folder for the state; name one with --state-dir, or keep \
                   nothing over a restart with store.kind = \"memory\"";
    let dir = config.state.dir.as_deref();
    dir.ok_or_else(|| config::Error(nowhere.to_owned()))
}

fn in_memory() -> Result<State> {
    Ok(State {
        backend: Arc::new(Nowhere),
        salt: Salt::random().context("the system gives no random bytes")?,
        restored: Restored::default(),
        clock: Clock::at(Moment::of_wall()),
        keeper: Keeper(None),
    })
}

fn on_disk(dir: &Path) -> Result<State> {
    let mut restored = Restored::default();
    let opened = Disk::open(dir, &mut |table, key, value| {
        restored.take(table, key, value)
    })?;
    let clock = match restored.newest() {
        Some(newest) => Clock::after(newest, Moment(opened.facts.written), Moment::of_wall()),
        None => Clock::at(Moment::of_wall()),
    };
    let found = opened.facts.schema;
    if found < SCHEMA {
        info!(
            schema = SCHEMA,
            found, "the state is one of this version now: earlier versions refuse it"
        );
    }
    info!(
        is_new = opened.is_new,
        branches = restored.branches.len(),
        turns = restored.turns.len(),
        "the state is open"
    );
    Ok(State {
        backend: Arc::new(opened.disk.clone()),
        salt: Salt::of_state(opened.facts.salt, opened.facts.texts),
        restored,
        clock,
        keeper: Keeper(Some((opened.disk, opened.serving))),
    })
}

impl Keeper {
    /// Writes the state down while this goes on, and all that is left at its end.
    pub async fn keep(self, going_on: impl Future<Output = ()>) {
        let Some((disk, serving)) = self.0 else {
            return going_on.await;
        };
        let used = async {
            going_on.await;
            disk.close().await;
        };
        tokio::join!(used, serving.in_a_task());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ids::TextHash;

    #[test]
    fn a_state_goes_on_with_the_hashes_that_it_was_begun_with() {
        let earlier = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/state/second.redb");
        for (begun_by, texts) in [(Some(earlier), TextHash::Sha256), (None, TextHash::Highway)] {
            let dir = tempfile::tempdir().unwrap();
            if let Some(earlier) = begun_by {
                fs::copy(earlier, dir.path().join("state.redb")).unwrap();
            }
            for _ in 0..2 {
                assert_eq!(on_disk(dir.path()).unwrap().salt.texts(), texts);
            }
        }
    }
}
