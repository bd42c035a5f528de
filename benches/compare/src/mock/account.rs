//! What the mock has seen: calls, connections, and how runs were read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::threads::Seen;

#[derive(Default)]
pub struct Account {
    posts: AtomicU64,
    reads: AtomicU64,
    connections: Arc<Connections>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Connections {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Default)]
struct Found {
    time: f64,
    polls: u64,
    lags: Vec<f32>,
    lates: Vec<f32>,
    since: Option<Instant>,
    /// Calls in each tenth of a second since the first one.
    tenths: [Vec<u32>; 2],
}

/// What is told of it. Times are seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub posts: u64,
    pub reads: u64,
    pub connections: usize,
    pub most_connections: usize,
    /// That were read as ready.
    pub runs: usize,
    pub mean_time: f64,
    pub mean_lag: f64,
    pub mean_polls: f64,
    pub lag_p50: f64,
    pub lag_p95: f64,
    pub lag_p99: f64,
    /// By how much the polls that found an end came later than they were due.
    pub late_p50: f64,
    pub late_p99: f64,
    /// Reads within one tenth of a second, at most.
    pub most_in_a_tenth: u32,
    /// Reads in each second, and posts.
    pub rate: Vec<u32>,
    pub post_rate: Vec<u32>,
}

impl Report {
    /// Poll efficiency: about 1 for a fixed interval, whatever it is.
    pub fn efficiency(&self) -> f64 {
        self.mean_time / 2.0 / (self.mean_lag * (self.mean_polls - 0.5))
    }
}

/// A connection that is open.
pub struct Open(Arc<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    pub fn open(&self) -> Open {
        let now = self.connections.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.connections.most.fetch_max(now, Ordering::Relaxed);
        Open(Arc::clone(&self.connections))
    }

    pub fn posted(&self, takes: f64) {
        self.posts.fetch_add(1, Ordering::Relaxed);
        if takes > 0.0 {
            self.found().counts(Called::Posted);
        }
    }

    pub fn read(&self, seen: &Seen) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // What completes at once is not worth a lock.
        if seen.found.is_some_and(|(time, ..)| time == 0.0) {
            return;
        }
        let mut found = self.found();
        found.counts(Called::Read);
        if let Some((time, lag, polls)) = seen.found {
            found.time += time;
            found.polls += u64::from(polls);
            found.lags.push(lag as f32);
            found.lates.push(seen.late as f32);
        }
    }

    /// Forgets all but the connections.
    pub fn reset(&self) {
        self.posts.store(0, Ordering::Relaxed);
        self.reads.store(0, Ordering::Relaxed);
        let now = self.connections.now.load(Ordering::Relaxed);
        self.connections.most.store(now, Ordering::Relaxed);
        *self.found() = Found::default();
    }

    pub fn report(&self) -> Report {
        let found = self.found();
        let runs = found.lags.len();
        let mean = |sum: f64| if runs == 0 { 0.0 } else { sum / runs as f64 };
        Report {
            posts: self.posts.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            connections: self.connections.now.load(Ordering::Relaxed),
            most_connections: self.connections.most.load(Ordering::Relaxed),
            runs,
            mean_time: mean(found.time),
            mean_lag: mean(found.lags.iter().map(|lag| f64::from(*lag)).sum()),
            mean_polls: mean(found.polls as f64),
            lag_p50: percentile(&found.lags, 0.5),
            lag_p95: percentile(&found.lags, 0.95),
            lag_p99: percentile(&found.lags, 0.99),
            late_p50: percentile(&found.lates, 0.5),
            late_p99: percentile(&found.lates, 0.99),
            most_in_a_tenth: found.of(Called::Read).iter().max().copied().unwrap_or(0),
            rate: in_seconds(found.of(Called::Read)),
            post_rate: in_seconds(found.of(Called::Posted)),
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum Called {
    Read,
    Posted,
}

impl Found {
    fn counts(&mut self, called: Called) {
        let since = self.since.get_or_insert_with(Instant::now);
        let at = (since.elapsed().as_millis() / 100) as usize;
        let tenths = &mut self.tenths[called as usize];
        if tenths.len() <= at {
            tenths.resize(at + 1, 0);
        }
        tenths[at] += 1;
    }

    fn of(&self, called: Called) -> &[u32] {
        &self.tenths[called as usize]
    }
}

fn in_seconds(tenths: &[u32]) -> Vec<u32> {
    tenths
        .chunks(10)
        .map(|tenths| tenths.iter().sum())
        .collect()
}

fn percentile(of: &[f32], share: f64) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f32::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    let at = at.min(sorted.len().saturating_sub(1));
    f64::from(sorted.get(at).copied().unwrap_or_default())
}
