//! Reads that something has held up, such as an upstream that stood still: they go one after the other,
//! where all of them at once would be more than their runs ever ask for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Whoever has waited less for a place is not held up any longer.
const HELD_UP: Duration = Duration::from_millis(500);

/// The furthest that they go apart: not all who read follow a run.
const APART: Duration = Duration::from_millis(5);

/// The turns of those that were held up.
#[derive(Debug, Default)]
pub struct Stagger {
    next: Mutex<Option<Instant>>,
}

impl Stagger {
    /// Waits for the turn of a read that has waited since `asked`. In the time of `over`, as many get
    /// theirs as there are runs.
    pub async fn turn(&self, asked: Instant, runs: usize, over: Duration) {
        let now = Instant::now();
        if now - asked < HELD_UP {
            return;
        }
        let apart = over / u32::try_from(runs).unwrap_or(u32::MAX).max(1);
        let due = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let due = next.map_or(now, |next| next.max(now));
            *next = Some(due + apart.min(APART));
            due
        };
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn those_that_were_held_up_go_apart_and_others_at_once() {
        let stagger = Stagger::default();
        let asked = Instant::now();
        advance(5 * SECOND).await;
        let start = Instant::now();

        let turns = join_all((0..1000).map(|_| async {
            stagger.turn(asked, 1000, 2 * SECOND).await;
            start.elapsed()
        }));
        let other = async {
            stagger.turn(start, 1000, 2 * SECOND).await;
            start.elapsed()
        };
        let (turns, other) = tokio::join!(turns, other);

        assert!(other.is_zero());
        let by = |second: f64| {
            turns
                .iter()
                .filter(|turn| turn.as_secs_f64() < second)
                .count()
        };
        assert!((240..=260).contains(&by(0.5)), "{}", by(0.5));
        assert!((490..=510).contains(&by(1.0)), "{}", by(1.0));
        assert_eq!(by(2.01), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_soon_done() {
        let stagger = Stagger::default();
        let asked = Instant::now();
        advance(5 * SECOND).await;
        let start = Instant::now();

        join_all((0..10).map(|_| stagger.turn(asked, 10, 2 * SECOND))).await;

        assert!(start.elapsed() <= SECOND / 4, "{:?}", start.elapsed());
    }
}
