//! What is learned of each upstream key, for as many of them as are remembered.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::learner::{Keeping, Learner, Plan, Spacing};
use super::views::Views;
use crate::clock::Moment;
use crate::ids::{ByOurs, Tenant};
use crate::store::Store;
use crate::store::paces::Learned;

/// Beyond so many, the one that was used longest ago is forgotten.
const KEYS: usize = 1024;

#[derive(Debug)]
pub struct Keys {
    spacing: Spacing,
    learners: ByOurs<Tenant, Learning>,
    /// What is expected of a key that nothing is known of.
    cold: OnceLock<Arc<Plan>>,
    /// Where it is written down.
    store: Option<Arc<Store>>,
}

#[derive(Debug)]
enum Learning {
    /// By an earlier process; nothing was asked of it yet.
    Left(Learned),
    Live(Arc<Learner>),
}

impl Keys {
    pub fn new(spacing: Spacing) -> Self {
        Self {
            spacing,
            learners: ByOurs::default(),
            cold: OnceLock::new(),
            store: None,
        }
    }

    /// Writes what is learned to the store, from which these have come.
    pub fn kept_in(mut self, store: Arc<Store>, mut left: Vec<(Tenant, Learned)>) -> Self {
        left.sort_by_key(|(_, learned)| std::cmp::Reverse(learned.used));
        let forgotten = left.split_off(left.len().min(KEYS));
        forgotten.iter().for_each(|(key, _)| store.forget_pace(key));
        let left = left.into_iter();
        self.learners = left
            .map(|(key, learned)| (key, Learning::Left(learned)))
            .collect();
        self.store = Some(store);
        self
    }

    pub fn learner(&self, key: &Tenant) -> Arc<Learner> {
        match self.learners.get(key).as_deref() {
            Some(Learning::Live(learner)) => return Arc::clone(learner),
            Some(Learning::Left(_)) => {}
            None if self.learners.len() >= KEYS => self.forget_one(),
            None => {}
        }
        let none = || Learning::Left(Learned::default());
        let mut learning = self.learners.entry(*key).or_insert_with(none);
        match learning.value() {
            Learning::Live(learner) => Arc::clone(learner),
            Learning::Left(learned) => {
                let keeping = self.store.clone().map(|store| Keeping { store, key: *key });
                let cold = || Arc::new(Plan::new(&Views::new(self.spacing.interval), self.spacing));
                let cold = self.cold.get_or_init(cold);
                let learner = Arc::new(Learner::new(self.spacing, cold, learned, keeping));
                *learning = Learning::Live(Arc::clone(&learner));
                learner
            }
        }
    }

    /// Has everything queued that is not written down yet.
    pub fn keep_all(&self) {
        for learning in &self.learners {
            if let Learning::Live(learner) = learning.value() {
                learner.keep();
            }
        }
    }

    /// One that has no run under way.
    fn forget_one(&self) {
        let uses = self.learners.iter().filter_map(|learning| {
            let used = learning.value().used()?;
            Some((used, *learning.key()))
        });
        let Some((_, oldest)) = uses.min() else {
            return;
        };
        self.learners.remove(&oldest);
        if let Some(store) = &self.store {
            store.forget_pace(&oldest);
        }
    }
}

impl Learning {
    /// When it was used, as far as such are compared: what an earlier process has left comes first.
    /// `None` while it is in use.
    fn used(&self) -> Option<(Moment, Option<Instant>)> {
        match self {
            Self::Left(learned) => Some((learned.used, None)),
            Self::Live(learner) if Arc::strong_count(learner) > 1 => None,
            Self::Live(learner) => Some((Moment(u64::MAX), learner.planned())),
        }
    }
}
