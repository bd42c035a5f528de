//! Who listens to a run, what has reached them, and what is remembered of it.

use super::Error;
use super::mend::Wanted;
use crate::store::record::{self, Kept, Times};

/// Who listens to a run, and what has reached them.
#[derive(Debug)]
pub struct Callers {
    pub live: usize,
    /// Those who asked for the response by its id: no request of theirs is repeated.
    pub readers: usize,
    pub times: Times,
    /// What is remembered of it as a response, before and after anything else is.
    pub kept: Option<Kept>,
    /// `None` until a message is meant to be posted.
    pub record: Option<record::Turn>,
    /// Nothing is under way: the first caller that asks again has the turn carried on.
    pub asleep: bool,
    /// How a caller that asked again wants the answer, where the record does not say.
    pub wanted: Option<Wanted>,
}

/// Whether a run, as its callers and its error are, may be attached to.
pub type May<'a> = &'a dyn Fn(&Callers, Option<&Error>) -> bool;

impl Callers {
    /// What is remembered once it is changed.
    pub fn changed(&mut self, change: impl FnOnce(&mut record::Turn)) -> Option<record::Turn> {
        self.record.as_mut().map(change);
        self.whole()
    }

    pub fn whole(&self) -> Option<record::Turn> {
        let (times, kept) = (self.times, self.kept.clone());
        let turn = self.record.clone()?;
        Some(record::Turn {
            times,
            kept,
            ..turn
        })
    }

    /// Nobody is being told.
    pub fn is_alone(&self) -> bool {
        self.live + self.readers == 0
    }

    /// Nobody has been told how it ended, and nobody waits to be.
    pub fn is_owed(&self) -> bool {
        self.live == 0 && self.times.written.is_none() && self.times.told.is_none()
    }
}
