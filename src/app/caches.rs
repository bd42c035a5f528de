//! What the allocator keeps at hand for each thread that serves is given back once a second while there is
//! work, and after it: of thousands of callers that went, a few hundred blocks at hand would keep the pages
//! of all.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;

/// Whether the program has an allocator that keeps anything at hand: see `main.rs`.
const KEEPS: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

/// How often it is given back while there is work.
const EVERY: Duration = Duration::from_secs(1);

/// For how long workers may have worked since, each on average, without that being worth a round.
const LITTLE: Duration = Duration::from_millis(1);

/// How many rounds follow on work: a worker that is asleep or busy may miss one.
const ROUNDS: u32 = 3;

thread_local! {
    /// The last round that this thread took part in.
    static ROUND: Cell<u64> = const { Cell::new(0) };
}

/// Looks once a second for as long as it is polled. On the threads of the runtime, and on its own.
pub async fn give_back() -> Infallible {
    if !KEEPS {
        return pending().await;
    }
    let runtime = Handle::current();
    let workers = runtime.metrics().num_workers();
    let (mut worked, mut left) = (Duration::ZERO, 0);
    let mut round = 0;
    loop {
        sleep(EVERY).await;
        let busy = busy(&runtime, workers);
        if busy.saturating_sub(worked) > LITTLE * u32::try_from(workers).unwrap_or(u32::MAX) {
            (worked, left) = (busy, ROUNDS);
        }
        if left > 0 {
            left -= 1;
            round += 1;
            // Each wakes a worker, and that the next: as many as there are tasks.
            for _ in 0..workers {
                drop(runtime.spawn(async move { take_part(round) }));
            }
        }
        // It has looked after what has ended meanwhile, which workers need not have noticed.
        empty();
    }
}

/// For how long all workers together have worked.
fn busy(runtime: &Handle, workers: usize) -> Duration {
    let metrics = runtime.metrics();
    let each = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker));
    each.sum()
}

/// Gives back what this thread has at hand, unless it did so in this round.
fn take_part(round: u64) {
    if ROUND.replace(round) != round {
        empty();
    }
}

fn empty() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use tikv_jemalloc_ctl::{Access as _, AsName as _};
        let enabled = "thread.tcache.enabled\0".name();
        // Turned off it is emptied. Where it was off, it stays so.
        if let Ok(before) = enabled.update(false) {
            let _ = enabled.write(before);
        }
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use tikv_jemalloc_ctl::{Access, AsName as _};

    use super::*;

    #[test]
    fn a_cache_that_was_emptied_is_as_it_was() {
        let enabled = "thread.tcache.enabled\0".name();
        for before in [true, false] {
            enabled.write(before).unwrap();

            empty();

            let after: bool = enabled.read().unwrap();
            assert_eq!(after, before);
        }
    }
}
