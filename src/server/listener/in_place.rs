//! A future that is polled again where it is when it is woken while it is polled.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often in a row, before others have their turn.
const POLLS: usize = 4;

/// Nobody polls it: who wakes it wakes its task.
const RESTS: u8 = 0;
/// It is polled, and was not woken since.
const POLLED: u8 = 1;
/// It is polled, and is to be polled again.
const WOKEN: u8 = 2;

/// hyper wakes a connection's task from within, for each request that has a body: what asks for the body is
/// polled by the task that reads it. The runtime would queue the task anew and wake another thread to take
/// it, which costs more than all that is left to do.
#[derive(Debug)]
pub struct InPlace<F> {
    pub future: F,
    wakes: Arc<Wakes>,
    /// Of `wakes`. The same one at all times, so that those who keep it need not take a new one.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl<F> InPlace<F> {
    pub fn new(future: F) -> Self {
        let wakes = Arc::<Wakes>::default();
        Self {
            future,
            waker: Arc::clone(&wakes).into(),
            wakes,
        }
    }
}

impl<F: Future + Unpin> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let own = &mut *self;
        own.wakes.task.register(context.waker());
        for _ in 0..POLLS {
            own.wakes.state.store(POLLED, Ordering::Release);
            let mut within = Context::from_waker(&own.waker);
            if let Poll::Ready(output) = Pin::new(&mut own.future).poll(&mut within) {
                return Poll::Ready(output);
            }
            if own.wakes.state.swap(RESTS, Ordering::AcqRel) == POLLED {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = |state| (state != RESTS).then_some(WOKEN);
        let is_noted = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, noted)
            .is_ok();
        if !is_noted {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use futures_util::future::poll_fn;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Task {
        fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut InPlace<F>) -> Poll<F::Output> {
            let waker = Arc::clone(self).into();
            Pin::new(future).poll(&mut Context::from_waker(&waker))
        }

        fn wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes itself until it was polled this often.
    fn restless(polls: usize) -> InPlace<impl Future<Output = ()> + Unpin> {
        let mut left = polls;
        InPlace::new(poll_fn(move |context| {
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }

    #[test]
    fn one_that_wakes_itself_is_polled_on_without_its_task() {
        let task = Arc::<Task>::default();

        assert!(task.poll(&mut restless(POLLS)).is_ready());

        assert_eq!(task.wakes(), 0);
    }

    #[test]
    fn one_that_wakes_itself_again_and_again_lets_others_have_their_turn() {
        let task = Arc::<Task>::default();
        let mut future = restless(2 * POLLS + 1);

        assert!(task.poll(&mut future).is_pending());
        assert_eq!(task.wakes(), 1);
        assert!(task.poll(&mut future).is_pending());
        assert_eq!(task.wakes(), 2);
        assert!(task.poll(&mut future).is_ready());
    }

    #[test]
    fn whoever_else_wakes_it_wakes_the_task_that_polled_it_last() {
        let (first, second) = (Arc::<Task>::default(), Arc::<Task>::default());
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut future = InPlace::new(Box::pin(receiver.recv()));

        assert!(first.poll(&mut future).is_pending());
        assert!(second.poll(&mut future).is_pending());
        assert!(sender.send(7).is_ok());

        assert_eq!((first.wakes(), second.wakes()), (0, 1));
        assert_eq!(second.poll(&mut future), Poll::Ready(Some(7)));
    }

    #[tokio::test]
    async fn no_wake_is_lost_whenever_it_comes() {
        const SENT: usize = 200_000;
        let (sender, mut receiver) = mpsc::channel(1);
        let sends = thread::spawn(move || {
            for _ in 0..SENT {
                while sender.try_send(()).is_err() && !sender.is_closed() {
                    std::hint::spin_loop();
                }
            }
        });

        let received = InPlace::new(Box::pin(async {
            let mut received = 0;
            while receiver.recv().await.is_some() {
                received += 1;
            }
            received
        }));

        let received = timeout(Duration::from_secs(60), received).await;
        assert_eq!(received, Ok(SENT), "it was left asleep");
        assert!(sends.join().is_ok());
    }
}
