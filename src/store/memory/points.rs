//! Every tip that is or was, and the branches that have come there.

use dashmap::mapref::entry::Entry;

use super::in_parts;
use crate::ids::{ByOurs, Fingerprint};
use crate::store::BranchId;

/// How many branches one fingerprint may lead to; the oldest make room.
const BRANCHES_PER_POINT: usize = 32;

/// Fingerprints, and the branches that each leads to.
#[derive(Debug)]
pub struct Points(ByOurs<Fingerprint, There>);

/// The branches at a point, in the order of coming there: nearly always one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum There {
    One(BranchId),
    Several(Box<[BranchId]>),
}

impl Points {
    pub fn with_room(room: usize) -> Self {
        Self(in_parts(room))
    }

    pub fn at(&self, point: &Fingerprint) -> Vec<BranchId> {
        let there = self.0.get(point);
        there.map_or_else(Vec::new, |there| there.ids().to_vec())
    }

    pub fn add(&self, point: Fingerprint, id: BranchId) {
        match self.0.entry(point) {
            Entry::Vacant(vacant) => {
                vacant.insert(There::One(id));
            }
            Entry::Occupied(mut occupied) => {
                let there = occupied.get().ids();
                if there.contains(&id) {
                    return;
                }
                let excess = (there.len() + 1).saturating_sub(BRANCHES_PER_POINT);
                let kept = there.iter().skip(excess).copied();
                occupied.insert(There::Several(kept.chain([id]).collect()));
            }
        }
    }

    pub fn remove(&self, point: Fingerprint, id: BranchId) {
        if let Entry::Occupied(mut occupied) = self.0.entry(point) {
            let there = occupied.get().ids().iter().copied();
            let kept: Vec<BranchId> = there.filter(|other| *other != id).collect();
            match kept.as_slice() {
                [] => {
                    occupied.remove();
                }
                [one] => {
                    occupied.insert(There::One(*one));
                }
                _ => {
                    occupied.insert(There::Several(kept.into()));
                }
            }
        }
    }
}

impl There {
    fn ids(&self) -> &[BranchId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        }
    }
}
