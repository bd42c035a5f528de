//! Turns side by side, one stage at a time.

use std::future::poll_fn;
use std::task::Poll;

/// Lets those that are queued come this far before this one goes on, where so many turns do not sleep. A turn
/// is more code than a processor holds near by, and a stage of it less: where many turns go through a stage one
/// after another, its code is fetched once for all of them ("Using Cohort Scheduling to Enhance Server
/// Performance", Larus and Parkes, USENIX 2002). One that has no other beside it goes on at once: to queue it
/// would wake a worker that has nothing to do.
pub async fn next(turns: usize) {
    if turns > 1 {
        behind_the_others().await;
    }
}

/// To the end of the worker's queue. `yield_now` goes behind what is still to be heard from the system too,
/// where those who come later pass those who came first.
async fn behind_the_others() {
    let mut is_queued = false;
    poll_fn(|context| {
        if is_queued {
            return Poll::Ready(());
        }
        is_queued = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;
    use tokio::task::JoinSet;

    use super::*;

    const STAGES: usize = 3;
    const TURNS: usize = 4;

    /// Which turn went through which stage, in the order in which that was.
    async fn gone_through() -> Vec<(usize, usize)> {
        let (mut turns, steps) = (JoinSet::new(), Arc::new(Mutex::new(Vec::new())));
        for turn in 0..TURNS {
            let steps = Arc::clone(&steps);
            turns.spawn(async move {
                for stage in 0..STAGES {
                    next(TURNS).await;
                    steps.lock().unwrap().push((stage, turn));
                }
            });
        }
        turns.join_all().await;
        Arc::into_inner(steps).unwrap().into_inner().unwrap()
    }

    #[tokio::test]
    async fn turns_go_through_a_stage_together_and_none_passes_another() {
        let steps = gone_through().await;

        let mut sorted = steps.clone();
        sorted.sort_unstable();
        assert_eq!(steps.len(), STAGES * TURNS);
        assert_eq!(steps, sorted);
    }

    #[test]
    fn a_turn_that_has_no_other_beside_it_goes_on_at_once() {
        assert_eq!(next(1).now_or_never(), Some(()));
        assert_eq!(next(2).now_or_never(), None);
    }
}
