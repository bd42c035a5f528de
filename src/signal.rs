//! A signal that is given once, and that every task listens for while it does something else.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio::sync::Notify;

/// Given once, for good. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Signal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_given: AtomicBool,
    listening: Notify,
}

impl Signal {
    pub fn give(&self) {
        self.0.is_given.store(true, Ordering::Release);
        self.0.listening.notify_waiters();
    }

    pub fn is_given(&self) -> bool {
        self.0.is_given.load(Ordering::Acquire)
    }

    /// Ends once it is given. A task that is woken for anything else looks at a flag: the list of those
    /// who listen, and its lock, are shared by all of them.
    pub async fn given(&self) {
        let mut told = pin!(self.0.listening.notified());
        let mut listed: Option<Waker> = None;
        poll_fn(|context| {
            let own = context.waker();
            if !listed.as_ref().is_some_and(|waker| waker.will_wake(own)) {
                listed = Some(own.clone());
                if told.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
            }
            // Looked at once it is listed, so that nothing comes between.
            if self.is_given() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake};

    use futures_util::FutureExt as _;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn everyone_who_listens_is_woken_once_and_sees_it() {
        let signal = Signal::default();
        let woken: [Arc<Woken>; 2] = Default::default();
        let wakers = woken.clone().map(Waker::from);
        let clone = signal.clone();
        let mut given = [&signal, &clone].map(|signal| Box::pin(signal.given()));
        for _ in 0..3 {
            for (given, waker) in given.iter_mut().zip(&wakers) {
                assert!(
                    given
                        .poll_unpin(&mut Context::from_waker(waker))
                        .is_pending()
                );
            }
        }
        assert!(!signal.is_given());

        signal.give();

        assert_eq!(woken.each_ref().map(|woken| woken.times()), [1, 1]);
        for (given, waker) in given.iter_mut().zip(&wakers) {
            assert!(given.poll_unpin(&mut Context::from_waker(waker)).is_ready());
        }
        assert!(signal.is_given());
        assert!(signal.given().now_or_never().is_some());
    }

    #[test]
    fn whoever_listened_last_is_woken() {
        let signal = Signal::default();
        let woken: [Arc<Woken>; 2] = Default::default();
        let mut given = Box::pin(signal.given());
        for woken in &woken {
            let waker = Waker::from(woken.clone());
            assert!(
                given
                    .poll_unpin(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }

        signal.give();

        assert_eq!(woken.map(|woken| woken.times()), [0, 1]);
    }

    #[test]
    fn one_that_was_given_meanwhile_is_seen_by_another_waker_too() {
        let signal = Signal::default();
        let mut given = Box::pin(signal.given());
        let [one, other]: [Arc<Woken>; 2] = Default::default();
        let mut look = |woken: Arc<Woken>| {
            let waker = Waker::from(woken);
            given.poll_unpin(&mut Context::from_waker(&waker))
        };
        assert!(look(one).is_pending());
        signal.give();

        assert!(look(other).is_ready());
    }
}
