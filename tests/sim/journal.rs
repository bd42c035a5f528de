//! A backend in memory that can lose what was not flushed, fail, and be gone back to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chaturdata_proxy::store::Restored;
use chaturdata_proxy::store::backend::{Backend, Flushed, Table, UNHURRIED, Unwritten, Write};
use tokio::time::sleep;

use crate::dice::Dice;

/// What is on the disk.
pub type Content = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The disk of one process. The next one is made of what is left of it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    durable: Content,
    pending: VecDeque<Vec<Write>>,
    /// All that was ever queued.
    queued: u64,
    written: u64,
    /// The process is gone: whatever its tasks still do is not seen.
    frozen: bool,
    /// Fails for good once so many flushes were made.
    fails_after: Option<u64>,
    flushes: u64,
    dice: Dice,
}

impl Journal {
    pub fn new(durable: Content, fails_after: Option<u64>, dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            durable,
            pending: VecDeque::new(),
            queued: 0,
            written: 0,
            frozen: false,
            fails_after,
            flushes: 0,
            dice,
        })))
    }

    /// Ends the process: what was flushed is kept, and of the rest as much as happened to be written.
    pub fn crash(&self) -> Content {
        let mut disk = self.disk();
        disk.frozen = true;
        let kept = disk.dice.below(disk.pending.len() as u64 + 1) as usize;
        if !disk.has_failed() {
            disk.write(kept);
        }
        disk.durable.clone()
    }

    pub fn restored(content: &Content) -> Restored {
        let mut restored = Restored::default();
        for ((table, key), value) in content {
            restored.take(*table, key, value).expect("records of ours");
        }
        let hashes: BTreeSet<_> = restored.handles.iter().map(|(hash, _)| hash).collect();
        assert_eq!(
            hashes.len(),
            restored.handles.len(),
            "a name stands there twice"
        );
        restored
    }

    /// Looks at what is on the disk.
    pub fn look<T>(&self, look: impl FnOnce(&Content) -> T) -> T {
        look(&self.disk().durable)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    fn flush_within(&self, upto: u64, takes: Duration) -> Flushed<'_> {
        Box::pin(async move {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            let flushed = self.disk().flush(upto);
            match flushed {
                Some(flushed) => flushed,
                None => std::future::pending().await,
            }
        })
    }
}

impl Disk {
    /// How long a flush takes.
    fn takes(&self) -> Duration {
        match self.dice.below(4) {
            0 => Duration::ZERO,
            1 => self.dice.millis(1..5),
            2 => self.dice.millis(5..100),
            _ => self.dice.millis(100..2_000),
        }
    }

    fn has_failed(&self) -> bool {
        self.fails_after.is_some_and(|after| self.flushes >= after)
    }

    /// `None` where the process is gone.
    fn flush(&mut self, upto: u64) -> Option<Result<(), Unwritten>> {
        if self.frozen {
            return None;
        }
        self.flushes += 1;
        if self.has_failed() {
            return Some(Err(Unwritten));
        }
        let count = upto.saturating_sub(self.written) as usize;
        self.write(count);
        Some(Ok(()))
    }

    fn write(&mut self, count: usize) {
        self.written += count as u64;
        for Write { table, key, value } in self.pending.drain(..count).flatten() {
            match value {
                Some(value) => self.durable.insert((table, key), value),
                None => self.durable.remove(&(table, key)),
            };
        }
    }
}

impl Backend for Journal {
    fn queue(&self, unit: Vec<Write>) {
        let mut disk = self.disk();
        if !disk.frozen {
            disk.queued += 1;
            disk.pending.push_back(unit);
        }
    }

    fn flushed(&self) -> Flushed<'_> {
        let disk = self.disk();
        self.flush_within(disk.queued, disk.takes())
    }

    fn flushed_unhurried(&self) -> Flushed<'_> {
        let disk = self.disk();
        // Sooner, where others have it written.
        let begins = disk.dice.millis(0..UNHURRIED.as_millis() as u64 + 1);
        self.flush_within(disk.queued, begins + disk.takes())
    }

    fn is_degraded(&self) -> bool {
        self.disk().has_failed()
    }
}
