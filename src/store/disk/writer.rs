//! Writes what is queued to the journal, all of it in one go, then the next; and what fills the journal, or has rested
//! there, to the database.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending, ready};
use std::mem;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking, yield_now};
use tokio::time::Instant;
use tracing::warn;

use super::alarm::Alarm;
use super::files::Files;
use super::journal::Span;
use super::reserve::Reserve;
use crate::store::backend::{Backend, Flushed, UNHURRIED, Unwritten, Write};

/// Bytes that may wait for the disk.
const MOST_WAITING: usize = 64 << 20;

/// A disk that takes longer for one write is as good as gone.
const SLOWEST: Duration = Duration::from_secs(30);

/// How long nothing is queued before the database has what the journal has.
const RESTS: Duration = Duration::from_secs(1);

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
    /// How many of them are to be as soon as can be.
    hurried: u64,
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

pub fn writer(files: Files, reserve: Reserve) -> (Disk, Serving) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        more: Notify::new(),
        progress: watch::Sender::default(),
        reserve,
    });
    let writer = Writer {
        end: End(Arc::clone(&shared)),
        files: Some(files),
        applying: None,
        due: Alarm::default(),
        slowest: Alarm::default(),
    };
    (Disk(shared), Serving(Box::pin(writer.serve())))
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
        queue.hurried = queue.queued;
        let is_hurried = queue.is_hurried();
        let flushed = self.0.until_durable(queue);
        if is_hurried {
            self.0.more.notify_one();
        }
        flushed
    }

    fn flushed_unhurried(&self) -> Flushed<'_> {
        self.0.until_durable(self.0.queue())
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

    /// Waits until everything that is queued is durable.
    fn until_durable(&self, mut queue: MutexGuard<'_, Queue>) -> Flushed<'static> {
        // Looked at under the lock, as it is changed: who comes later than that is never told.
        if self.progress().takes_no_more() {
            return Box::pin(ready(Err(Unwritten)));
        }
        if queue.durable == queue.queued {
            return Box::pin(ready(Ok(())));
        }
        let (durable, reached) = oneshot::channel();
        let wanted = queue.queued;
        queue.waiting.push_back((wanted, durable));
        Box::pin(async move { reached.await.map_err(|_| Unwritten) })
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

    /// Waits until somebody is in a hurry for what is queued, or it is [`UNHURRIED`] old, or the database is to
    /// have what it does not have, or the disk is closing.
    async fn due(&self, alarm: &mut Alarm, rests: Option<Instant>) -> Due {
        loop {
            let now = Instant::now();
            let write = {
                let queue = self.queue();
                let is_at_once = queue.is_closing || queue.is_hurried();
                match queue.since.map(|since| since + UNHURRIED) {
                    None if queue.is_closing => return Due::End,
                    Some(due) if is_at_once || due <= now => return Due::Write,
                    due => due,
                }
            };
            if rests.is_some_and(|rests| rests <= now) {
                return Due::Apply;
            }
            let more = self.more.notified();
            let Some(next) = write.into_iter().chain(rests).min() else {
                more.await;
                continue;
            };
            tokio::select! {
                biased;
                () = more => {}
                () = alarm.by(next) => {}
            }
        }
    }
}

/// What is to be done next.
enum Due {
    Write,
    Apply,
    /// The disk is closing, and nothing is queued.
    End,
}

impl Queue {
    fn is_hurried(&self) -> bool {
        self.hurried > self.durable
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

/// A batch on its way into the database.
type Applying = Pin<Box<dyn Future<Output = Result<Span, String>> + Send>>;

struct Writer {
    end: End,
    /// `None` while a thread has them, which gives them back unless it never comes to its end.
    files: Option<Files>,
    applying: Option<Applying>,
    /// Both stay, so that hardly a write sets one anew.
    due: Alarm,
    slowest: Alarm,
}

impl Writer {
    async fn serve(mut self) {
        while self.next().await {}
        if let Err(why) = self.settle().await {
            self.end.0.degrade(&why);
        }
        if let Some(files) = self.files.take() {
            let close = move || {
                files.close();
                Ok(())
            };
            let _ = on_a_thread(&mut self.slowest, close).await;
        }
    }

    /// Waits for what is to be done next, and does it; false once the disk is closing and nothing is queued.
    async fn next(&mut self) -> bool {
        let shared = Arc::clone(&self.end.0);
        let rests = self.applying.is_none() && self.is_ahead();
        let rests = rests.then(|| Instant::now() + RESTS);
        let done = tokio::select! {
            biased;
            applied = finished(&mut self.applying) => self.applied(applied),
            due = shared.due(&mut self.due, rests) => match due {
                Due::Write => self.write().await,
                Due::Apply => {
                    self.apply();
                    Ok(())
                }
                Due::End => return false,
            }
        };
        if let Err(why) = done {
            shared.degrade(&why);
        }
        true
    }

    async fn write(&mut self) -> Result<(), String> {
        // Turns that are at hand come along.
        yield_now().await;
        let (writes, count) = self.end.0.queue().take();
        // Where it was too much by then, nothing is left of it.
        let Some(mut files) = self.files.take_if(|_| !writes.is_empty()) else {
            return Ok(());
        };
        let write = move || {
            let written = files.write(writes, now());
            Ok((files, written))
        };
        let (files, written) = on_a_thread(&mut self.slowest, write).await?;
        let is_filling = files.is_filling();
        self.files = Some(files);
        if !written? {
            self.settle().await?;
        } else if is_filling && self.applying.is_none() {
            self.apply();
        }
        // Where it was degraded meanwhile, nobody waits any more.
        self.end.0.reach(count);
        Ok(())
    }

    /// Returns once the database has everything.
    async fn settle(&mut self) -> Result<(), String> {
        while self.applying.is_some() || self.is_ahead() {
            if self.applying.is_none() {
                self.apply();
            }
            let applied = finished(&mut self.applying).await;
            self.applied(applied)?;
        }
        Ok(())
    }

    /// Whether the database is to have what it does not have.
    fn is_ahead(&self) -> bool {
        let is_ahead = self.files.as_ref().is_some_and(Files::is_ahead);
        is_ahead && !self.end.0.progress().is_degraded
    }

    /// Has a thread put all that the database does not have into it.
    fn apply(&mut self) {
        if let Some(files) = &mut self.files {
            let batch = files.batch();
            self.applying = Some(Box::pin(async move {
                on_a_thread(&mut Alarm::default(), move || batch.apply(now())).await
            }));
        }
    }

    fn applied(&mut self, applied: Result<Span, String>) -> Result<(), String> {
        self.applying = None;
        let span = applied?;
        if let Some(files) = &mut self.files {
            files.applied(span);
        }
        Ok(())
    }
}

/// What a batch came to; never, where there is none.
async fn finished(applying: &mut Option<Applying>) -> Result<Span, String> {
    match applying {
        Some(applying) => applying.await,
        None => pending().await,
    }
}

/// Runs on a thread that may block; an error where it takes too long, or panics.
async fn on_a_thread<T: Send + 'static>(
    alarm: &mut Alarm,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (mut work, until) = (spawn_blocking(work), Instant::now() + SLOWEST);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                return done.unwrap_or_else(|_| Err("the writer came to an end".to_owned()));
            }
            () = alarm.by(until) => {}
        }
        if until <= Instant::now() {
            return Err("the disk does not answer".to_owned());
        }
    }
}
