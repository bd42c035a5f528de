//! Who may post on a branch's thread: one request at a time, the others in the order they came.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use crate::store::{Lease, Slot};

/// A branch whose lease is held.
#[derive(Debug)]
pub struct Held {
    pub slot: Arc<Slot>,
    pub lease: Lease,
}

/// A place in the queue for a branch. Dropped, the place is given up.
pub struct Waiting {
    pub slot: Arc<Slot>,
    lease: Pin<Box<dyn Future<Output = Lease> + Send + Sync>>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("slot", &self.slot.id)
            .finish()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.slot.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Waiting {
    /// Takes the last place in the queue for a branch, in the order of calls.
    pub fn new(slot: Arc<Slot>, depth: u32) -> Option<Self> {
        let taken = slot.waiting.fetch_add(1, Ordering::Relaxed);
        let mut waiting = Self {
            lease: Box::pin(slot.lease_lock().lock_owned()),
            slot,
        };
        // The first poll joins the lock's queue; a lease that is had at once is kept for `held`.
        let mut context = Context::from_waker(Waker::noop());
        match waiting.lease.as_mut().poll(&mut context) {
            Poll::Ready(lease) => waiting.lease = Box::pin(std::future::ready(lease)),
            Poll::Pending if taken >= depth => return None,
            Poll::Pending => {}
        }
        Some(waiting)
    }

    /// Waits until the requests before this one are through.
    pub async fn held(mut self) -> Held {
        let lease = self.lease.as_mut().await;
        Held {
            slot: self.slot.clone(),
            lease,
        }
    }
}
