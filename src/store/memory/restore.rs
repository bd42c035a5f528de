//! Takes up what an earlier process has left, on two threads where there is much of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::handles::{Handles, take_handle};
use super::points::Points;
use super::{Slot, Store, in_parts};
use crate::ids::Fingerprint;
use crate::store::record::Rested;
use crate::store::{BranchId, HandleHash, HandleRecord};

impl Store {
    /// Takes up what an earlier process has left, before anybody asks.
    pub fn restore(&mut self, mut branches: Vec<Rested>, handles: &[(HandleHash, HandleRecord)]) {
        branches.sort_unstable_by_key(|branch| (branch.used, branch.id));
        let newest = branches.iter().map(|branch| branch.id.0 + 1).max();
        self.next_branch
            .fetch_max(newest.unwrap_or_default(), Ordering::Relaxed);
        let points: Vec<(Fingerprint, BranchId)> = branches
            .iter()
            .flat_map(|branch| {
                let points = branch.passed.iter().chain([&branch.tip]);
                points.map(|point| (*point, branch.id))
            })
            .collect();
        // With room from the first: nothing is moved while they fill.
        self.branches = in_parts(branches.len());
        self.points = Points::with_room(points.len());
        self.handles = Handles::with_room(handles.len());
        let store = &*self;
        side_by_side(
            points.len(),
            || {
                points
                    .iter()
                    .for_each(|(point, id)| store.points.add(*point, *id))
            },
            || {
                let mut order = store.order();
                order.reserve(branches.len());
                for branch in branches {
                    let slot = store.enter(branch);
                    slot.lock().spot = order.put_resting(slot.id);
                }
            },
        );
        let (some, others) = handles.split_at(handles.len() / 2);
        side_by_side(
            handles.len(),
            || store.lead_again(some),
            || store.lead_again(others),
        );
    }

    fn enter(&self, branch: Rested) -> Arc<Slot> {
        let slot = Slot::restored(branch.id, branch.line, branch.used);
        self.branches.insert(branch.id, slot.clone());
        slot
    }

    fn lead_again(&self, handles: &[(HandleHash, HandleRecord)]) {
        for (hash, leads) in handles {
            if self.branches.contains_key(&leads.branch) {
                self.handles.insert(*hash, *leads);
            } else {
                self.backend.queue(vec![take_handle(*hash, *leads)]);
            }
        }
    }
}

/// Does both, and returns once both are done: one after the other where there is little to do.
fn side_by_side(records: usize, one: impl FnOnce() + Send, other: impl FnOnce()) {
    const LITTLE: usize = 10_000;
    if records < LITTLE {
        one();
        return other();
    }
    thread::scope(|scope| {
        let one = thread::Builder::new().spawn_scoped(scope, one);
        other();
        one.expect("a thread can be had at the start");
    });
}
