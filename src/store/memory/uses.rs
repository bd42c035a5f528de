//! Branches in the order of their last use, those that are awake apart from those that rest: one is
//! moved to the end, or taken out, in a few steps, however many there are.

use slab::Slab;

use crate::store::BranchId;

/// The ends of the two lists: what is before an end is the last of its list, what is after it the first.
const RESTING: u32 = 0;
const AWAKE: u32 = 1;

/// No branch has this number.
const NONE: BranchId = BranchId(u64::MAX);

/// Where a branch stands. Another may stand there once it is taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot(u32);

/// All that are awake stand behind all that rest.
#[derive(Debug)]
pub struct Uses {
    links: Slab<Link>,
    awake: usize,
}

#[derive(Debug)]
struct Link {
    id: BranchId,
    before: u32,
    after: u32,
    is_awake: bool,
}

impl Default for Uses {
    fn default() -> Self {
        let ends = [RESTING, AWAKE].map(|end| {
            let link = Link {
                id: NONE,
                before: end,
                after: end,
                is_awake: end == AWAKE,
            };
            (end as usize, link)
        });
        Self {
            links: ends.into_iter().collect(),
            awake: 0,
        }
    }
}

impl Uses {
    /// Makes room for so many more.
    pub fn reserve(&mut self, more: usize) {
        self.links.reserve(more);
    }

    /// How many are awake.
    pub fn awake(&self) -> usize {
        self.awake
    }

    /// Puts a branch behind all others, awake, wherever it stands, if it stands anywhere.
    pub fn put_last(&mut self, spot: Spot, id: BranchId) -> Spot {
        let at = if self.stands(spot, id) {
            self.part(spot.0);
            spot.0
        } else {
            self.add(id)
        };
        self.join(at, AWAKE);
        Spot(at)
    }

    /// Puts a new one behind all others that rest.
    pub fn put_resting(&mut self, id: BranchId) -> Spot {
        let at = self.add(id);
        self.join(at, RESTING);
        Spot(at)
    }

    /// Has the first one that is awake rest.
    pub fn rest_first(&mut self) -> Option<BranchId> {
        let id = self.first_awake()?;
        let at = self.link(AWAKE).after;
        self.part(at);
        self.join(at, RESTING);
        Some(id)
    }

    pub fn first_awake(&self) -> Option<BranchId> {
        let first = self.links.get(AWAKE as usize)?.after;
        let link = self.links.get(first as usize)?;
        (first != AWAKE).then_some(link.id)
    }

    /// Takes it out, unless that was done before.
    pub fn remove(&mut self, spot: Spot, id: BranchId) {
        if self.stands(spot, id) {
            self.part(spot.0);
            self.links.remove(spot.0 as usize);
        }
    }

    /// Those that rest, then those that are awake: by their last use.
    pub fn iter(&self) -> impl Iterator<Item = (Spot, BranchId)> {
        [RESTING, AWAKE].into_iter().flat_map(move |end| {
            let after = move |at: &u32| {
                let next = self.links.get(*at as usize)?.after;
                (next != end).then_some(next)
            };
            let stand = std::iter::successors(after(&end), after);
            stand.filter_map(|at| Some((Spot(at), self.links.get(at as usize)?.id)))
        })
    }

    fn stands(&self, spot: Spot, id: BranchId) -> bool {
        let link = self.links.get(spot.0 as usize);
        link.is_some_and(|link| link.id == id)
    }

    fn add(&mut self, id: BranchId) -> u32 {
        let at = self.links.insert(Link {
            id,
            before: RESTING,
            after: RESTING,
            is_awake: false,
        });
        u32::try_from(at).expect("memory ends before the numbers of its places do")
    }

    fn join(&mut self, at: u32, end: u32) {
        let last = std::mem::replace(&mut self.link(end).before, at);
        self.link(last).after = at;
        let link = self.link(at);
        (link.before, link.after, link.is_awake) = (last, end, end == AWAKE);
        self.awake += usize::from(end == AWAKE);
    }

    fn part(&mut self, at: u32) {
        let link = self.link(at);
        let (before, after, is_awake) = (link.before, link.after, link.is_awake);
        self.link(before).after = after;
        self.link(after).before = before;
        self.awake -= usize::from(is_awake);
    }

    fn link(&mut self, at: u32) -> &mut Link {
        let link = self.links.get_mut(at as usize);
        link.expect("what is linked is taken out of its list first")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDS: u64 = 12;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Use(u64),
        /// Where it is in neither list.
        Restore(u64),
        Rest,
        Remove(u64),
        /// By the place that it had before it was taken out.
        RemoveAgain(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..IDS).prop_map(Op::Use),
            (0..IDS).prop_map(Op::Restore),
            Just(Op::Rest),
            (0..IDS).prop_map(Op::Remove),
            (0..IDS).prop_map(Op::RemoveAgain),
        ]
    }

    /// What is expected of it, and the places that were given out.
    #[derive(Default)]
    struct Model {
        resting: Vec<u64>,
        awake: Vec<u64>,
        spots: std::collections::HashMap<u64, Spot>,
    }

    impl Model {
        fn take(&mut self, id: u64) {
            self.resting.retain(|other| *other != id);
            self.awake.retain(|other| *other != id);
        }

        fn carry_out(&mut self, uses: &mut Uses, op: Op) {
            let spot = |model: &Self, id| model.spots.get(&id).copied().unwrap_or_default();
            match op {
                Op::Use(id) => {
                    let spot = uses.put_last(spot(self, id), BranchId(id));
                    self.spots.insert(id, spot);
                    self.take(id);
                    self.awake.push(id);
                }
                Op::Restore(id) => {
                    if !self.resting.contains(&id) && !self.awake.contains(&id) {
                        self.spots.insert(id, uses.put_resting(BranchId(id)));
                        self.resting.push(id);
                    }
                }
                Op::Rest => {
                    let first = (!self.awake.is_empty()).then(|| self.awake.remove(0));
                    assert_eq!(uses.rest_first(), first.map(BranchId));
                    self.resting.extend(first);
                }
                Op::Remove(id) | Op::RemoveAgain(id) => {
                    uses.remove(spot(self, id), BranchId(id));
                    self.take(id);
                    if matches!(op, Op::Remove(_)) {
                        self.spots.remove(&id);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_what_two_plain_lists_are(ops in prop::collection::vec(op(), 0..80)) {
            let (mut uses, mut model) = (Uses::default(), Model::default());
            for op in ops {
                model.carry_out(&mut uses, op);

                let all: Vec<u64> = uses.iter().map(|(_, id)| id.0).collect();
                prop_assert_eq!(all, [&model.resting[..], &model.awake].concat());
                prop_assert_eq!(uses.awake(), model.awake.len());
                prop_assert_eq!(uses.first_awake(), model.awake.first().copied().map(BranchId));
                for (spot, id) in uses.iter() {
                    prop_assert_eq!(Some(&spot), model.spots.get(&id.0));
                }
            }
        }
    }
}
