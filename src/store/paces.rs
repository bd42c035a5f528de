//! What was learned of how long the runs of an upstream key take: times and weights.

use serde::{Deserialize, Serialize};

use super::Store;
use super::backend::Table;
use super::memory::{put, take};
use super::record::{Unreadable, bytes, value_of};
use crate::clock::Moment;
use crate::ids::Tenant;

/// Of one key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// When it was written down.
    pub used: Moment,
    /// How much each view of the runs counts.
    weights: Vec<f32>,
    /// Between which two polls each run ended, in milliseconds from its acceptance, oldest first.
    pub brackets: Vec<(u32, u32)>,
}

impl Learned {
    pub fn new(used: Moment, weights: &[f64], brackets: Vec<(u32, u32)>) -> Self {
        Self {
            used,
            weights: weights.iter().map(|weight| *weight as f32).collect(),
            brackets,
        }
    }

    pub fn weights(&self) -> Vec<f64> {
        self.weights.iter().copied().map(f64::from).collect()
    }

    pub fn read(key: &[u8], value: &[u8]) -> Result<(Tenant, Self), Unreadable> {
        let key = key.try_into().map_err(|_| Unreadable)?;
        Ok((Tenant(key), value_of(value)?))
    }
}

impl Store {
    pub fn write_pace(&self, key: &Tenant, learned: &Learned) {
        let write = put(Table::Paces, key.0.to_vec(), bytes(learned));
        self.backend.queue(vec![write]);
    }

    pub fn forget_pace(&self, key: &Tenant) {
        self.backend.queue(vec![take(Table::Paces, key.0.to_vec())]);
    }
}
