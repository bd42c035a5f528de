//! A call is woken by what comes, and not by what it does itself: it would be queued behind itself.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use chaturdata_proxy::upstream::{ThreadId, Upstream};

use super::peer::{answering, client, http};
use super::{key, opening};

/// An answer to a new message, and to a read as well.
const BOTH: &[u8] = br#"{"thread_id":"th_1","run_status":{"status":"in_progress"},"messages":[]}"#;

/// Whoever polls a call, and how often it was woken by what it did itself meanwhile.
struct Polled {
    outer: Waker,
    is_polled: Arc<AtomicBool>,
    woken: Arc<AtomicUsize>,
}

impl Wake for Polled {
    fn wake(self: Arc<Self>) {
        if self.is_polled.load(Ordering::Relaxed) {
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
        self.outer.wake_by_ref();
    }
}

/// How often a call that runs on this thread alone wakes itself.
async fn wakes_of_itself(call: impl Future) -> usize {
    let woken = Arc::new(AtomicUsize::new(0));
    let is_polled = Arc::new(AtomicBool::new(false));
    let mut call = pin!(call);
    poll_fn(|context| {
        let polled = Arc::new(Polled {
            outer: context.waker().clone(),
            is_polled: is_polled.clone(),
            woken: woken.clone(),
        });
        is_polled.store(true, Ordering::Relaxed);
        let outcome = call
            .as_mut()
            .poll(&mut Context::from_waker(&Waker::from(polled)));
        is_polled.store(false, Ordering::Relaxed);
        outcome
    })
    .await;
    woken.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_call_does_not_wake_itself() {
    let (url, _) = answering(http("200 OK", "", BOTH)).await;
    let (upstream, key, thread) = (client(&url), key(), ThreadId("th_1".into()));
    upstream.read(&key, &thread).await.unwrap();

    assert_eq!(wakes_of_itself(upstream.read(&key, &thread)).await, 0);
    assert_eq!(wakes_of_itself(upstream.post(&key, &opening("Q"))).await, 0);
}
