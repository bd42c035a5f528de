//! What the store remembers, held against lists that are searched from end to end.

mod compared;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::ids::{Fingerprint, Handle, Tenant};
use chaturdata_proxy::store::{Bounds, Branch, HandleKey, Lease, PASSED, Slot, Store};
use chaturdata_proxy::upstream::ThreadId;
use proptest::prelude::*;
use tokio::time::advance;

use super::{cases, paused};
use crate::restarts::Shelf;

/// Branches are looked for at points of this many depths in all, far above what a case reaches.
const DEPTHS: usize = 800;
const NAMES: u8 = 20;
const MAX_AGE: Duration = Duration::from_secs(100);

/// Which branch is meant, among all that there ever were.
type Which = usize;

#[derive(Clone, Debug)]
enum Op {
    Insert {
        tenant: u8,
    },
    Release(Which),
    Claim(Which),
    Advance {
        which: Which,
        variant: u8,
        times: usize,
    },
    SetHandle {
        which: Which,
        name: u8,
        delta: bool,
    },
    ClaimHandle {
        which: Which,
        name: u8,
    },
    /// A name may be older than its use: what is known of that by then counts from then on.
    Make {
        tenant: u8,
        name: u8,
        at: u64,
    },
    EndDelta {
        tenant: u8,
        name: u8,
    },
    Forget(Which),
    Find(Which),
    Sleep(u64),
    /// What was not used for a while rests.
    Settle,
}

#[derive(Clone, Debug)]
struct Case {
    max: usize,
    /// How many transcripts of one length there are.
    variants: u8,
    ops: Vec<Op>,
}

fn op() -> impl Strategy<Value = Op> {
    let which = || 0..1000_usize;
    let name = || 0..NAMES;
    prop_oneof![
        160 => (0..2_u8).prop_map(|tenant| Op::Insert { tenant }),
        160 => which().prop_map(Op::Release),
        40 => which().prop_map(Op::Claim),
        240 => (which(), 0..3_u8).prop_map(|(which, variant)| Op::Advance { which, variant, times: 1 }),
        1 => (which(), 0..3_u8)
            .prop_map(|(which, variant)| Op::Advance { which, variant, times: PASSED + 3 }),
        120 => (which(), name(), any::<bool>())
            .prop_map(|(which, name, delta)| Op::SetHandle { which, name, delta }),
        60 => (which(), name()).prop_map(|(which, name)| Op::ClaimHandle { which, name }),
        120 => (0..2_u8, name(), 0..3_u64).prop_map(|(tenant, name, at)| Op::Make { tenant, name, at }),
        40 => (0..2_u8, name()).prop_map(|(tenant, name)| Op::EndDelta { tenant, name }),
        20 => which().prop_map(Op::Forget),
        120 => which().prop_map(Op::Find),
        40 => (1..80_u64).prop_map(Op::Sleep),
        40 => Just(Op::Settle),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let max = prop_oneof![4 => 0..8_usize, 1 => Just(60_usize)];
    let ops = prop_oneof![
        40 => prop::collection::vec(op(), 0..25),
        1 => prop::collection::vec(op(), 100..300),
    ];
    (max, 1..3_u8, ops).prop_map(|(max, variants, ops)| Case { max, variants, ops })
}

/// A branch, as the model has it.
#[derive(Clone, Debug)]
struct Known {
    tenant: u8,
    alive: bool,
    leased: bool,
    used: Duration,
    tip: Option<usize>,
    passed: VecDeque<usize>,
    names: Vec<u8>,
    depth: usize,
}

#[derive(Debug)]
struct Model {
    max: usize,
    now: Duration,
    known: Vec<Known>,
    handles: BTreeMap<(u8, u8), (Which, bool)>,
    /// Who has been at a point, in the order of coming there.
    points: BTreeMap<usize, Vec<Which>>,
}

impl Model {
    fn alive(&self) -> usize {
        self.known.iter().filter(|known| known.alive).count()
    }

    fn is_old(&self, which: Which) -> bool {
        self.now - self.known[which].used > MAX_AGE
    }

    fn forget(&mut self, which: Which) {
        if !std::mem::replace(&mut self.known[which].alive, false) {
            return;
        }
        for at in self.points.values_mut() {
            at.retain(|other| *other != which);
        }
        self.handles.retain(|_, (leads_to, _)| *leads_to != which);
    }

    /// The branch, unless it has been out of use for too long.
    fn find(&mut self, which: Which) -> Option<Which> {
        if self.known[which].alive && self.is_old(which) && !self.known[which].leased {
            self.forget(which);
        }
        self.known[which].alive.then_some(which)
    }

    fn at(&mut self, point: usize) -> Vec<Which> {
        let there = self.points.get(&point).cloned().unwrap_or_default();
        let newest_first = there.into_iter().rev();
        newest_first.filter_map(|which| self.find(which)).collect()
    }

    /// The longest unused make room, but for those in use.
    fn touch(&mut self, which: Which) {
        self.known[which].used = self.now;
        let mut order: Vec<Which> = (0..self.known.len())
            .filter(|which| self.known[*which].alive)
            .collect();
        order.sort_by_key(|which| self.known[*which].used);
        let mut passed_over = 0;
        for which in order {
            if !self.is_old(which) && self.alive() <= self.max {
                break;
            }
            if !self.known[which].leased {
                self.forget(which);
                continue;
            }
            passed_over += 1;
            if passed_over == 128 {
                break;
            }
        }
    }

    fn come_to(&mut self, point: usize, which: Which) {
        let there = self.points.entry(point).or_default();
        if !there.contains(&which) {
            there.push(which);
            let excess = there.len().saturating_sub(32);
            there.drain(..excess);
        }
    }

    fn advance(&mut self, which: Which, point: usize) {
        let known = &mut self.known[which];
        let before = known.tip.replace(point);
        known.depth += 1;
        known.passed.extend(before);
        let dropped = (known.passed.len() > PASSED).then(|| known.passed.pop_front());
        if let Some(there) = dropped
            .flatten()
            .and_then(|point| self.points.get_mut(&point))
        {
            there.retain(|other| *other != which);
        }
        if self.known[which].alive {
            for point in before.into_iter().chain([point]) {
                self.come_to(point, which);
            }
            self.touch(which);
        }
    }

    fn set_handle(&mut self, which: Which, name: u8, delta: bool) {
        let known = &mut self.known[which];
        let tenant = known.tenant;
        known.names.retain(|other| *other != name);
        known.names.push(name);
        let dropped = (known.names.len() > 16).then(|| known.names.remove(0));
        if let Some(dropped) = dropped
            && self
                .handles
                .get(&(tenant, dropped))
                .is_some_and(|(leads_to, _)| *leads_to == which)
        {
            self.handles.remove(&(tenant, dropped));
        }
        self.handles.remove(&(tenant, name));
        if self.known[which].alive {
            self.handles.insert((tenant, name), (which, delta));
        }
    }
}

/// The store and the model, told the same.
struct Pair {
    store: Store,
    /// What the store writes down.
    shelf: Shelf,
    model: Model,
    variants: u8,
    slots: Vec<(Arc<Slot>, Option<Lease>)>,
}

impl Pair {
    fn new(case: &Case) -> Self {
        let bounds = Bounds {
            max: case.max,
            max_age: MAX_AGE,
        };
        let shelf = Shelf::default();
        Self {
            store: Store::new(bounds, Clock::at(Moment(0)), Arc::new(shelf.clone())),
            shelf,
            model: Model {
                max: case.max,
                now: Duration::ZERO,
                known: Vec::new(),
                handles: BTreeMap::new(),
                points: BTreeMap::new(),
            },
            variants: case.variants,
            slots: Vec::new(),
        }
    }

    async fn pass(&mut self, time: Duration) {
        advance(time).await;
        self.model.now += time;
    }

    async fn follow(&mut self, op: &Op) {
        // Nothing happens at the same moment as something else.
        self.pass(Duration::from_millis(1)).await;
        match *op {
            Op::Insert { tenant } => self.insert(tenant),
            Op::Make { tenant, name, at } => self.store.make_conversation(&key(tenant, name), at),
            Op::EndDelta { tenant, name } => {
                self.store.end_delta(&key(tenant, name));
                if let Some((_, delta)) = self.model.handles.get_mut(&(tenant, name)) {
                    *delta = false;
                }
            }
            Op::Sleep(seconds) => self.pass(Duration::from_secs(seconds)).await,
            Op::Settle => self.store.settle().await,
            Op::Release(which)
            | Op::Claim(which)
            | Op::Forget(which)
            | Op::Find(which)
            | Op::Advance { which, .. }
            | Op::SetHandle { which, .. }
            | Op::ClaimHandle { which, .. } => {
                if !self.slots.is_empty() {
                    self.change(op, which % self.slots.len()).await;
                }
            }
        }
        assert_eq!(self.store.len(), self.model.alive());
    }

    async fn change(&mut self, op: &Op, which: Which) {
        let slot = self.slots[which].0.clone();
        match *op {
            Op::Release(_) => {
                self.slots[which].1 = None;
                self.model.known[which].leased = false;
            }
            Op::Claim(_) => {
                let lease = slot.try_lease();
                assert_eq!(lease.is_none(), self.model.known[which].leased);
                if lease.is_some() {
                    self.slots[which].1 = lease;
                    self.model.known[which].leased = true;
                }
            }
            Op::Advance { variant, times, .. } => {
                for _ in 0..times.max(1) {
                    self.pass(Duration::from_millis(1)).await;
                    self.advance(which, variant);
                }
            }
            Op::SetHandle { name, delta, .. } => {
                self.store.set_handle(&handle(name), &slot, delta);
                self.model.set_handle(which, name, delta);
            }
            Op::ClaimHandle { name, .. } => self.claim_handle(which, name),
            Op::Forget(_) => {
                self.store.forget(slot.id);
                self.model.forget(which);
            }
            _ => {
                let found = self.store.branch(slot.id).map(|slot| slot.id);
                assert_eq!(found, self.model.find(which).map(|_| slot.id));
            }
        }
    }

    fn insert(&mut self, tenant: u8) {
        let (slot, lease) = self.store.insert(branch(tenant));
        self.slots.push((slot, Some(lease)));
        self.model.known.push(Known {
            tenant,
            alive: true,
            leased: true,
            used: self.model.now,
            tip: None,
            passed: VecDeque::new(),
            names: Vec::new(),
            depth: 0,
        });
        self.model.touch(self.slots.len() - 1);
    }

    fn advance(&mut self, which: Which, variant: u8) {
        let depth = self.model.known[which].depth;
        if depth + 1 >= DEPTHS {
            return;
        }
        let point = point(depth, variant % self.variants);
        let slot = &self.slots[which].0;
        self.store.advance(slot, None, |branch| {
            branch.advance(fingerprint(point), &[[1; 32]])
        });
        self.model.advance(which, point);
    }

    /// Only a branch that lives, is new, and has not had this name yet, asks for it.
    fn claim_handle(&mut self, which: Which, name: u8) {
        let known = &self.model.known[which];
        let tenant = known.tenant;
        let is_new = !self.slots[which].0.is_written();
        if !known.alive || !is_new || known.names.contains(&name) {
            return;
        }
        let claimed = self
            .store
            .claim_handle(&handle(name), &self.slots[which].0, true);
        let free = !self.model.handles.contains_key(&(tenant, name));
        assert_eq!(claimed, free);
        if free {
            self.model.handles.insert((tenant, name), (which, true));
            self.model.known[which].names.push(name);
        }
    }

    /// Whatever was, in the end nothing is kept of what is out of use.
    async fn grow_old(&mut self) {
        for (which, (_, lease)) in self.slots.iter_mut().enumerate() {
            *lease = None;
            self.model.known[which].leased = false;
        }
        self.pass(MAX_AGE + Duration::from_secs(1)).await;
        self.insert(0);
        self.compare();
        assert_eq!(self.store.len(), 1);
    }
}

fn point(depth: usize, variant: u8) -> usize {
    depth * 3 + usize::from(variant)
}

pub fn fingerprint(point: usize) -> Fingerprint {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&point.to_le_bytes());
    Fingerprint(bytes)
}

fn handle(name: u8) -> Handle {
    Handle(format!("h{name}").into())
}

fn key(tenant: u8, name: u8) -> HandleKey {
    (Tenant([tenant; 32]), handle(name))
}

fn branch(tenant: u8) -> Branch {
    Branch {
        thread: Some(ThreadId("th_1".into())),
        ..Branch::unborn(Tenant([tenant; 32]), Fingerprint([0; 16]), [0; 32])
    }
}

#[test]
fn the_store_remembers_what_a_list_would() {
    let runtime = paused();

    let checked = cases(10_000).run(&case(), |case| {
        runtime.block_on(async {
            let mut pair = Pair::new(&case);
            for op in &case.ops {
                pair.follow(op).await;
            }
            pair.compare();
            pair.grow_old().await;
        });
        Ok(())
    });

    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
