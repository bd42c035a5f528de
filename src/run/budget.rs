//! So many reads per second for each upstream key, given out in turn: to tenants, then to their runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::config::Rate;
use crate::ids::{ByOurs, Tenant};

/// Keys that are kept when nobody waits, before those are dropped that owe nothing.
const KEYS: usize = 1024;

/// Tenants of one key that are remembered when none of their reads waits.
const TENANTS: usize = 256;

/// The budget of every upstream key.
#[derive(Debug)]
pub struct Budget {
    /// From one read of a key to the next. `None`: there is no budget.
    spacing: Option<Duration>,
    keys: ByOurs<Tenant, Arc<Line>>,
}

/// Who waits for a read with one key.
#[derive(Debug, Default)]
struct Line(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// No read before this.
    next: Option<Instant>,
    /// The one that was served longest ago comes first, each with those of its reads that wait.
    tenants: VecDeque<(Tenant, VecDeque<Arc<Notify>>)>,
}

impl Budget {
    pub fn new(rate: Option<Rate>) -> Self {
        Self {
            spacing: rate.map(Rate::spacing),
            keys: ByOurs::default(),
        }
    }

    /// Waits until it is this tenant's turn to read with this key. Dropped before, it gives the turn up.
    pub async fn turn(&self, key: &Tenant, tenant: Tenant) {
        let Some(spacing) = self.spacing else {
            return;
        };
        if self.keys.len() >= KEYS {
            let now = Instant::now();
            self.keys.retain(|_, line| !line.is_idle(now));
        }
        let line = Arc::clone(&self.keys.entry(*key).or_default());
        let mut ticket = Ticket::draw(&line, tenant);
        loop {
            let woken = ticket.called.notified();
            let due = line.waiting().due(&ticket.called);
            match due {
                None => woken.await,
                Some(due) if due > Instant::now() => sleep_until(due).await,
                Some(_) => break,
            }
        }
        line.waiting().next = Some(Instant::now() + spacing);
        ticket.is_used = true;
    }
}

/// A place in the line, until it is dropped.
struct Ticket<'a> {
    line: &'a Line,
    tenant: Tenant,
    called: Arc<Notify>,
    is_used: bool,
}

impl<'a> Ticket<'a> {
    fn draw(line: &'a Line, tenant: Tenant) -> Self {
        let called = Arc::new(Notify::new());
        let mut waiting = line.waiting();
        if waiting.tenants.len() >= TENANTS {
            waiting.tenants.retain(|(_, reads)| !reads.is_empty());
        }
        let own = waiting.tenants.iter_mut().find(|(of, _)| *of == tenant);
        match own {
            Some((_, reads)) => reads.push_back(Arc::clone(&called)),
            None => {
                let reads = VecDeque::from([Arc::clone(&called)]);
                waiting.tenants.push_front((tenant, reads));
            }
        }
        drop(waiting);
        Self {
            line,
            tenant,
            called,
            is_used: false,
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting();
        waiting.remove(&self.tenant, &self.called, self.is_used);
        if let Some(first) = waiting.first() {
            first.notify_one();
        }
    }
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self, now: Instant) -> bool {
        let waiting = self.waiting();
        waiting.first().is_none() && waiting.next.is_none_or(|next| next <= now)
    }
}

impl Waiting {
    fn first(&self) -> Option<&Arc<Notify>> {
        self.tenants.iter().find_map(|(_, reads)| reads.front())
    }

    /// When this read may go, where it is the first.
    fn due(&self, called: &Arc<Notify>) -> Option<Instant> {
        let is_first = self.first().is_some_and(|first| Arc::ptr_eq(first, called));
        is_first.then(|| self.next.unwrap_or_else(Instant::now))
    }

    /// A tenant whose read went comes after all others.
    fn remove(&mut self, tenant: &Tenant, called: &Arc<Notify>, went: bool) {
        let Some(at) = self.tenants.iter().position(|(of, _)| of == tenant) else {
            return;
        };
        let Some((_, reads)) = self.tenants.get_mut(at) else {
            return;
        };
        reads.retain(|other| !Arc::ptr_eq(other, called));
        if went && let Some(served) = self.tenants.remove(at) {
            self.tenants.push_back(served);
        }
    }
}
