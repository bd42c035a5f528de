//! Writes what is queued: all of it in one go, then the next.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, ready};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::Database;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking, yield_now};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::reserve::Reserve;
use super::{Folder, records};
use crate::store::backend::{Backend, Flushed, UNHURRIED, Unwritten, Write};

/// Bytes that may wait for the disk.
const MOST_WAITING: usize = 64 << 20;

/// A disk that takes longer for one write is as good as gone.
const SLOWEST: Duration = Duration::from_secs(30);

/// What a write costs in memory beside its bytes.
const OVERHEAD: usize = size_of::<Write>();

/// Where records are queued for the file. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
    progress: watch::Sender<Progress>,
    reserve: Reserve,
}

#[derive(Debug, Default)]
struct Queue {
    /// Taken all at once, so that no unit is ever torn.
    writes: Vec<Write>,
    /// When the first of them was queued.
    since: Option<Instant>,
    bytes: usize,
    /// How many units were ever queued.
    queued: u64,
    /// How many of them are durable.
    durable: u64,
    /// Those who wait for so many to be durable, in the order in which that comes.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    is_degraded: bool,
    is_closed: bool,
}

/// Writes what is queued as long as it is polled; ends once the disk is closed.
pub struct Serving(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Serving {
    /// Goes on in a task of its own: where those who wait are woken by a worker, they go on there, and not
    /// by way of the queue that all workers share.
    pub async fn in_a_task(self) {
        let mut task = JoinSet::new();
        task.spawn(self);
        if let Some(Err(ended)) = task.join_next().await
            && let Ok(panic) = ended.try_into_panic()
        {
            resume_unwind(panic);
        }
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl Future for Serving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

/// An open file, and the folder that is held until it is closed.
#[derive(Debug)]
struct Open {
    db: Database,
    _folder: Option<Folder>,
}

pub fn writer(db: Database, folder: Option<Folder>, reserve: Reserve) -> (Disk, Serving) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        more: Notify::new(),
        progress: watch::Sender::default(),
        reserve,
    });
    let open = Open {
        db,
        _folder: folder,
    };
    let serving = serve(End(Arc::clone(&shared)), open);
    (Disk(shared), Serving(Box::pin(serving)))
}

/// Milliseconds since the epoch.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl Backend for Disk {
    fn queue(&self, unit: Vec<Write>) {
        let size = |write: &Write| {
            let value = write.value.as_ref().map_or(0, Vec::len);
            OVERHEAD + write.key.len() + value
        };
        let bytes: usize = unit.iter().map(size).sum();
        let mut queue = self.0.queue();
        // Looked at under the lock, as it is changed: what degrades empties the queue for good.
        if self.0.progress().takes_no_more() || unit.is_empty() {
            return;
        }
        queue.queued += 1;
        queue.bytes += bytes;
        queue.writes.extend(unit);
        let is_first = queue.since.is_none();
        queue.since.get_or_insert_with(Instant::now);
        let is_full = queue.bytes > MOST_WAITING;
        drop(queue);
        if is_full {
            self.0.degrade("the disk takes less than there is to write");
        } else if is_first {
            self.0.more.notify_one();
        }
    }

    fn flushed(&self) -> Flushed<'_> {
        let mut queue = self.0.queue();
        // Looked at under the lock, as it is changed: who comes later than that is never told.
        if self.0.progress().takes_no_more() {
            return Box::pin(ready(Err(Unwritten)));
        }
        if queue.durable == queue.queued {
            return Box::pin(ready(Ok(())));
        }
        let (durable, reached) = oneshot::channel();
        let wanted = queue.queued;
        queue.waiting.push_back((wanted, durable));
        drop(queue);
        self.0.more.notify_one();
        Box::pin(async move { reached.await.map_err(|_| Unwritten) })
    }

    fn is_degraded(&self) -> bool {
        self.0.progress().is_degraded || self.0.reserve.is_spent()
    }
}

impl Disk {
    /// Has everything written that was queued, and the file closed. Ready once both are done, or
    /// cannot be.
    pub async fn close(&self) {
        self.0.queue().is_closing = true;
        self.0.more.notify_one();
        let mut progress = self.0.progress.subscribe();
        // The sender is in `self`.
        let _ = progress.wait_for(|progress| progress.is_closed).await;
    }
}

impl Progress {
    fn takes_no_more(self) -> bool {
        self.is_degraded || self.is_closed
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// From here on nothing is written: after a failure nobody knows what the disk holds of it.
    fn degrade(&self, why: &str) {
        let mut queue = self.queue();
        drop(queue.take());
        queue.waiting = VecDeque::new();
        let is_first = self
            .progress
            .send_if_modified(|progress| !mem::replace(&mut progress.is_degraded, true));
        drop(queue);
        if is_first {
            warn!(
                why,
                "the state cannot be written: requests go on, but a restart would not know of them"
            );
        }
    }

    /// So many units are durable: tells those who wait for that, and wakes nobody else.
    fn reach(&self, count: u64) {
        let mut queue = self.queue();
        queue.durable = count;
        let reached = queue
            .waiting
            .partition_point(|(wanted, _)| *wanted <= count);
        let reached: Vec<_> = queue.waiting.drain(..reached).collect();
        drop(queue);
        for (_, durable) in reached {
            // Who has gone meanwhile need not know.
            let _ = durable.send(());
        }
    }

    /// Waits until somebody waits for what is queued, or it is [`UNHURRIED`] old, or the disk is
    /// closing. False once it is closing and nothing is left.
    async fn due(&self) -> bool {
        loop {
            let due = {
                let queue = self.queue();
                let is_at_once = queue.is_closing || queue.is_awaited();
                match queue.since.map(|since| since + UNHURRIED) {
                    None if queue.is_closing => return false,
                    Some(due) if is_at_once || due <= Instant::now() => return true,
                    due => due,
                }
            };
            match due {
                Some(due) => drop(timeout_at(due, self.more.notified()).await),
                None => self.more.notified().await,
            }
        }
    }
}

impl Queue {
    fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn take(&mut self) -> (Vec<Write>, u64) {
        self.bytes = 0;
        self.since = None;
        (mem::take(&mut self.writes), self.queued)
    }
}

/// Tells those who wait that nothing more is written, however it ended.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.waiting = VecDeque::new();
        self.0
            .progress
            .send_modify(|progress| progress.is_closed = true);
    }
}

async fn serve(end: End, open: Open) {
    let shared = &end.0;
    let mut open = Some(open);
    while shared.due().await {
        // Turns that are at hand come along.
        yield_now().await;
        let (writes, count) = shared.queue().take();
        // Where it was too much by then, nothing is left of it.
        if writes.is_empty() {
            continue;
        }
        // Taken while it is written: it comes back unless that failed.
        let Some(mut file) = open.take() else {
            continue;
        };
        let written = spawn_blocking(move || {
            let written = file.write(&writes);
            (file, written)
        });
        match timeout(SLOWEST, written).await {
            Ok(Ok((file, Ok(())))) => {
                open = Some(file);
                shared.reach(count);
            }
            Ok(Ok((file, Err(why)))) => {
                shared.degrade(&why);
                open = Some(file);
            }
            Ok(Err(_)) => shared.degrade("the writer came to an end"),
            Err(_) => shared.degrade("the disk does not answer"),
        }
    }
    if let Some(file) = open {
        let closed = spawn_blocking(move || file.close());
        let _ = timeout(SLOWEST, closed).await;
    }
}

impl Open {
    fn write(&mut self, writes: &[Write]) -> Result<(), String> {
        let write =
            AssertUnwindSafe(|| records::write(&self.db, &records::last_of_each(writes), now()));
        match catch_unwind(write) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("writing panicked".to_owned()),
        }
    }

    /// What could not be written is lost by now; what was is found again.
    fn close(self) {
        let Self { db, _folder } = self;
        let _ = catch_unwind(AssertUnwindSafe(|| db.close()));
    }
}
