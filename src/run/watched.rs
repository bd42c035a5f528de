//! A run's progress, and those who wait until it changes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::progress::Progress;

/// What tokio's `watch` is, in a third of the room: runs are kept by the thousand long after
/// anybody waits for them.
#[derive(Debug)]
pub struct Watched {
    state: Mutex<State>,
    changed: Notify,
    over: Notify,
}

#[derive(Debug)]
struct State {
    version: Version,
    progress: Progress,
}

/// How often it had changed when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version(u64);

impl Watched {
    pub fn new(progress: Progress) -> Self {
        let version = Version::default();
        Self {
            state: Mutex::new(State { version, progress }),
            changed: Notify::new(),
            over: Notify::new(),
        }
    }

    /// Must not wait, nor look or change within.
    pub fn look<T>(&self, look: impl FnOnce(&Progress) -> T) -> T {
        look(&self.state().progress)
    }

    /// As [`Watched::look`], noting what was seen for [`Watched::changed`].
    pub fn look_anew<T>(&self, seen: &mut Version, look: impl FnOnce(&Progress) -> T) -> T {
        let state = self.state();
        *seen = state.version;
        look(&state.progress)
    }

    /// Tells everyone who waits for it.
    pub fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut state = self.state();
        change(&mut state.progress);
        state.version.0 += 1;
        let is_over = state.progress.is_over();
        drop(state);
        self.changed.notify_waiters();
        if is_over {
            self.over.notify_waiters();
        }
    }

    /// Waits until there is something newer to see. Safe to drop at any time.
    pub async fn changed(&self, seen: Version) {
        loop {
            // Made before the look: whatever comes after it is told.
            let changed = self.changed.notified();
            if self.state().version != seen {
                return;
            }
            changed.await;
        }
    }

    /// Waits until it is over, and is woken for nothing else. Safe to drop at any time.
    pub async fn over(&self) {
        loop {
            let over = self.over.notified();
            if self.state().progress.is_over() {
                return;
            }
            over.await;
        }
    }

    /// Waits until it is so. Safe to drop at any time.
    pub async fn until(&self, is_so: impl Fn(&Progress) -> bool) {
        let mut seen = Version::default();
        while !self.look_anew(&mut seen, &is_so) {
            self.changed(seen).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A change that panics leaves one value after another as it was or as it is to be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures_util::stream::FuturesUnordered;
    use futures_util::{FutureExt as _, StreamExt as _};
    use tokio::time::timeout;

    use super::*;
    use crate::conversation::Decision;
    use crate::ids::Handle;
    use crate::run::Place;

    fn watched() -> Arc<Watched> {
        Arc::new(Watched::new(Progress::at(Place {
            conversation: Handle("".into()),
            decision: Decision::Created,
            is_replay: false,
        })))
    }

    /// Each change comes while the one before was just seen: at the moment at which it could be missed.
    #[test]
    fn nobody_who_waits_misses_a_change() {
        const LAST: u32 = 50_000;
        let (watched, seen) = (watched(), AtomicU32::new(0));
        let wait = async {
            for polls in 1..=LAST {
                watched.until(|progress| progress.polls == polls).await;
                seen.store(polls, Ordering::Release);
            }
        };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_time().build().unwrap();
                runtime.block_on(async { timeout(Duration::from_secs(60), wait).await })
            });
            let mut next = 1;
            while !waiting.is_finished() {
                if seen.load(Ordering::Acquire) + 1 == next && next <= LAST {
                    (0..next % 128).for_each(|_| std::hint::spin_loop());
                    watched.change(|progress| progress.polls = next);
                    next += 1;
                }
                std::thread::yield_now();
            }
        });
        assert_eq!(seen.into_inner(), LAST);
    }

    #[tokio::test]
    async fn what_was_seen_is_no_change_and_what_came_since_is_one() {
        let watched = watched();
        let mut seen = Version::default();

        let waited = |seen| {
            let watched = watched.clone();
            async move {
                tokio::select! { biased; () = watched.changed(seen) => true, () = async {} => false }
            }
        };
        assert!(!waited(seen).await);
        watched.change(|progress| progress.polls = 1);
        assert!(waited(seen).await);
        assert_eq!(watched.look_anew(&mut seen, |progress| progress.polls), 1);
        assert!(!waited(seen).await);
    }

    #[test]
    fn whoever_waits_for_the_end_is_woken_by_nothing_else() {
        let answered = |progress: &mut Progress| progress.end(Ok(Arc::default()));
        let withdrawn = |progress: &mut Progress| progress.withdrawn = true;
        for end in [answered as fn(&mut Progress), withdrawn] {
            let (watched, looks) = (watched(), AtomicU32::new(0));
            let mut over = Box::pin(watched.over());
            // Looks again only where it was woken.
            let mut waiting = FuturesUnordered::from_iter([poll_fn(|context| {
                looks.fetch_add(1, Ordering::Relaxed);
                over.as_mut().poll(context)
            })]);
            let mut is_over = || waiting.next().now_or_never().is_some();
            assert!(!is_over());
            watched.change(|progress| progress.polls = 1);
            assert!(!is_over());
            assert_eq!(looks.load(Ordering::Relaxed), 1);

            watched.change(end);

            assert!(is_over());
            assert_eq!(looks.load(Ordering::Relaxed), 2);
        }
    }
}
