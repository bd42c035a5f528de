//! What was seen, and whether it is good enough.

use std::time::Duration;

/// How long things took.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Zero where nothing was seen.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }
}

/// Claims that were tried, in words.
pub struct Verdict {
    /// Bounds on time are so many times wider where the machine is shared.
    slack: u32,
    failed: usize,
}

impl Verdict {
    pub fn new(is_full: bool) -> Self {
        Self {
            slack: if is_full { 1 } else { 3 },
            failed: 0,
        }
    }

    pub fn claim(&mut self, holds: bool, what: &str) {
        println!("{} {what}", if holds { "  ok  " } else { "FAILED" });
        self.failed += usize::from(!holds);
    }

    pub fn within(&mut self, what: &str, seen: Duration, bound: Duration) {
        let words = format!("{what}: {seen:.1?}, at most {bound:.1?}");
        self.claim(seen <= bound * self.slack, &words);
    }

    pub fn is_good(&self) -> bool {
        self.failed == 0
    }
}

pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1_000_000.0
}
