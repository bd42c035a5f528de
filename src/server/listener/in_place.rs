//! A connection that is polled again where it is when it was woken while it was polled, but not by the service.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// hyper wakes whoever takes a request's body when it hands a part of it over, and is woken when that is taken: both
/// are the task that it is polled by. The runtime would queue the task anew, and wake another thread to take it: more
/// than the poll costs. A wake while the service has the word queues the task: so the service lets others go first.
#[derive(Debug)]
pub struct InPlace<F> {
    pub future: F,
    wakes: Arc<Wakes>,
    /// Of `wakes`. The same one at all times, so that those who keep it need not take a new one.
    waker: Waker,
}

/// When a connection was woken.
#[derive(Debug, Default)]
pub struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

/// How often in a row it is polled, before other tasks are. hyper gives way too, after some rounds of its own: it is
/// polled on as often.
const POLLS: usize = 4;

/// It is being polled.
const POLLED: u8 = 1;
/// The service has the word.
const SERVING: u8 = 2;
/// It was woken while it was polled and the service did not have the word: it is to be polled again.
const AGAIN: u8 = 4;
/// It was woken while the service had the word: its task is queued.
const QUEUED: u8 = 8;

impl<F> InPlace<F> {
    pub fn new(future: F, wakes: Arc<Wakes>) -> Self {
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
            own.wakes.state.store(POLLED, Ordering::Relaxed);
            let mut within = Context::from_waker(&own.waker);
            if let Poll::Ready(output) = Pin::new(&mut own.future).poll(&mut within) {
                return Poll::Ready(output);
            }
            let seen = own.wakes.state.swap(0, Ordering::AcqRel);
            if seen & (AGAIN | QUEUED) != AGAIN {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wakes {
    /// Polls the service. On another thread, at worst a task is queued for nothing, or polled on that gave way.
    pub fn serving<T>(&self, poll: impl FnOnce() -> T) -> T {
        let before = self.state.fetch_or(SERVING, Ordering::Relaxed);
        let polled = poll();
        if before & SERVING == 0 {
            self.state.fetch_and(!SERVING, Ordering::Relaxed);
        }
        polled
    }

    /// Polls what is hyper's, from within the service.
    pub fn taking<T>(&self, poll: impl FnOnce() -> T) -> T {
        let before = self.state.fetch_and(!SERVING, Ordering::Relaxed);
        let polled = poll();
        if before & SERVING != 0 {
            self.state.fetch_or(SERVING, Ordering::Relaxed);
        }
        polled
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = |state| match state {
            _ if state & POLLED == 0 => None,
            _ if state & SERVING == 0 => Some(state | AGAIN),
            _ => Some(state | QUEUED),
        };
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, noted);
        if before.is_ok_and(|state| state & SERVING == 0) {
            return;
        }
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use axum::body::Body;
    use futures_util::FutureExt as _;
    use futures_util::future::poll_fn;
    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use hyper::server::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::sync::mpsc;
    use tokio::time::timeout;
    use tower::service_fn;

    use super::*;
    use crate::server::listener::{Outbox, Tagged};

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

    /// Wakes itself in each poll but the last one, as `wake` does it.
    fn woken(
        polls: usize,
        wake: impl Fn(&Wakes, &Waker) + Unpin,
    ) -> InPlace<impl Future<Output = ()> + Unpin> {
        let wakes = Arc::<Wakes>::default();
        let (own, mut left) = (Arc::clone(&wakes), polls);
        let future = poll_fn(move |context| {
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            wake(&own, context.waker());
            Poll::Pending
        });
        InPlace::new(future, wakes)
    }

    /// hyper hands a part of a body over.
    fn hand_over(_: &Wakes, waker: &Waker) {
        waker.wake_by_ref();
    }

    /// The service takes one.
    fn take(wakes: &Wakes, waker: &Waker) {
        wakes.serving(|| wakes.taking(|| waker.wake_by_ref()));
    }

    fn give_way(wakes: &Wakes, waker: &Waker) {
        wakes.serving(|| waker.wake_by_ref());
    }

    #[test]
    fn one_that_takes_a_body_is_polled_on_without_its_task() {
        let after_the_service = |wakes: &Wakes, waker: &Waker| {
            wakes.serving(|| ());
            hand_over(wakes, waker);
        };
        for wake in [hand_over as fn(&Wakes, &Waker), take, after_the_service] {
            let task = Arc::<Task>::default();

            assert!(task.poll(&mut woken(POLLS, wake)).is_ready());

            assert_eq!(task.wakes(), 0);
        }
    }

    #[test]
    fn one_that_takes_a_long_body_lets_others_go_first() {
        let task = Arc::<Task>::default();
        let mut future = woken(2 * POLLS + 1, take);

        assert!(task.poll(&mut future).is_pending());
        assert_eq!(task.wakes(), 1);
        assert!(task.poll(&mut future).is_pending());
        assert_eq!(task.wakes(), 2);
        assert!(task.poll(&mut future).is_ready());
    }

    #[test]
    fn one_that_gives_way_is_queued_whether_or_not_it_took_a_body() {
        let then = |wakes: &Wakes, waker: &Waker| {
            take(wakes, waker);
            give_way(wakes, waker);
        };
        let before = |wakes: &Wakes, waker: &Waker| {
            give_way(wakes, waker);
            take(wakes, waker);
        };
        let after_a_part = |wakes: &Wakes, waker: &Waker| {
            wakes.serving(|| {
                wakes.taking(|| ());
                waker.wake_by_ref();
            });
        };
        for wake in [give_way as fn(&Wakes, &Waker), then, before, after_a_part] {
            let task = Arc::<Task>::default();
            let mut future = woken(3, wake);

            for polls in 1..3 {
                assert!(task.poll(&mut future).is_pending());
                assert_eq!(task.wakes(), polls);
            }
            assert!(task.poll(&mut future).is_ready());
        }
    }

    #[test]
    fn whoever_else_wakes_it_wakes_the_task_that_polled_it_last() {
        let (first, second) = (Arc::<Task>::default(), Arc::<Task>::default());
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut future = InPlace::new(Box::pin(receiver.recv()), Arc::default());

        assert!(first.poll(&mut future).is_pending());
        assert!(second.poll(&mut future).is_pending());
        assert!(sender.send(7).is_ok());

        assert_eq!((first.wakes(), second.wakes()), (0, 1));
        assert_eq!(second.poll(&mut future), Poll::Ready(Some(7)));
    }

    #[test]
    fn a_body_that_is_taken_elsewhere_wakes_the_task() {
        let task = Arc::<Task>::default();
        let mut future = woken(3, |_, _| {});
        let (wakes, waker) = (Arc::clone(&future.wakes), future.waker.clone());
        assert!(task.poll(&mut future).is_pending());

        take(&wakes, &waker);

        assert_eq!(task.wakes(), 1);
    }

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n";

    /// Answers with the body that it is sent; gives way so often before.
    fn connection(io: DuplexStream, times: usize) -> InPlace<impl Future<Output: Debug> + Unpin> {
        let outbox = Arc::<Outbox>::default();
        let wakes = Arc::clone(&outbox.wakes);
        let service = service_fn(move |request: Request<Body>| async move {
            let body = request.into_body().collect().await?;
            for _ in 0..times {
                let mut is_queued = false;
                poll_fn(|context| {
                    if std::mem::replace(&mut is_queued, true) {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            }
            Ok::<_, axum::Error>(Response::new(Body::from(body.to_bytes())))
        });
        let tagged = Tagged {
            service,
            outbox,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        let http = http1::Builder::new();
        InPlace::new(http.serve_connection(TokioIo::new(io), tagged), wakes)
    }

    #[tokio::test]
    async fn a_request_with_a_body_wakes_nobody_but_by_what_comes() {
        let (mut caller, io) = duplex(1024);
        let (task, mut connection) = (Arc::<Task>::default(), connection(io, 0));
        assert!(task.poll(&mut connection).is_pending());
        let (mut sent, mut answer) = (0, [0; 1024]);
        for (with_the_head, later) in [("hello", ""), ("", "hello"), ("hel", "lo")] {
            let begins = [HEAD, with_the_head.as_bytes()].concat();
            for part in [&begins, later.as_bytes()] {
                if !part.is_empty() {
                    caller.write_all(part).await.unwrap();
                    sent += 1;
                    assert!(task.poll(&mut connection).is_pending());
                }
            }
            assert_eq!(task.wakes(), sent);
            let length = caller.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"\r\n\r\nhello"));
        }
    }

    #[tokio::test]
    async fn a_service_that_gives_way_is_queued_each_time() {
        let (mut caller, io) = duplex(1024);
        let (task, mut connection) = (Arc::<Task>::default(), connection(io, 2));
        caller.write_all(HEAD).await.unwrap();
        caller.write_all(b"hello").await.unwrap();
        for wakes in [1, 2, 2] {
            assert!(caller.read_u8().now_or_never().is_none());

            assert!(task.poll(&mut connection).is_pending());

            assert_eq!(task.wakes(), wakes);
        }
        assert_eq!(caller.read_u8().await.unwrap(), b'H');
    }

    /// By a thread that wakes it at all times, within the taking and without.
    #[tokio::test]
    async fn no_wake_is_lost_whenever_it_comes() {
        const SENT: usize = 50_000;
        let (sender, mut receiver) = mpsc::channel(1);
        let sends = thread::spawn(move || {
            for _ in 0..SENT {
                while sender.try_send(()).is_err() && !sender.is_closed() {
                    thread::yield_now();
                }
            }
        });
        let wakes = Arc::<Wakes>::default();
        let own = Arc::clone(&wakes);

        let received = Box::pin(async move {
            let (mut received, mut polls) = (0, 0);
            let mut next = |context: &mut Context<'_>| {
                polls += 1;
                let mut next = || receiver.poll_recv(context);
                own.serving(|| match polls % 2 {
                    0 => own.taking(next),
                    _ => next(),
                })
            };
            while poll_fn(&mut next).await.is_some() {
                received += 1;
            }
            received
        });
        let received = timeout(Duration::from_secs(60), InPlace::new(received, wakes)).await;

        assert_eq!(received, Ok(SENT), "it was left asleep");
        assert!(sends.join().is_ok());
    }
}
