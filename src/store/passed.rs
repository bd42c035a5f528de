//! The earlier tips of a branch: the newest are written with it, at every turn, the others beside it, once in
//! many turns. What a turn has written does not grow with its conversation.

use std::collections::VecDeque;

use super::PASSED;
use crate::ids::Fingerprint;

/// How many are written with their branch at most.
const WITH_BRANCH: u16 = 32;

/// Earlier tips, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    points: VecDeque<Fingerprint>,
    /// How many of them, from the newest on, are not written beside the branch.
    fresh: u16,
}

impl Passed {
    /// All of them, and how many are written with their branch.
    pub fn resting(mut points: VecDeque<Fingerprint>, fresh: u16) -> Self {
        points.drain(..points.len().saturating_sub(PASSED));
        let all = u16::try_from(points.len()).unwrap_or(u16::MAX);
        let fresh = fresh.min(all);
        Self { points, fresh }
    }

    /// With those that were written beside the branch.
    pub fn behind(self, mut older: VecDeque<Fingerprint>) -> Self {
        older.extend(self.points);
        Self::resting(older, self.fresh)
    }

    pub fn at_rest(&self) -> (&VecDeque<Fingerprint>, u16) {
        (&self.points, self.fresh)
    }

    /// Adds one. The oldest makes room where there is none.
    pub fn push(&mut self, point: Fingerprint) -> Option<Fingerprint> {
        self.points.push_back(point);
        self.fresh = if self.fresh < WITH_BRANCH {
            self.fresh + 1
        } else {
            0
        };
        let is_full = self.points.len() > PASSED;
        is_full.then(|| self.points.pop_front()).flatten()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fingerprint> {
        self.points.iter()
    }

    pub fn contains(&self, point: &Fingerprint) -> bool {
        self.points.contains(point)
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Those that are written with the branch.
    pub fn with_branch(&self) -> VecDeque<Fingerprint> {
        let older = self.points.len().saturating_sub(self.fresh.into());
        self.points.iter().skip(older).copied().collect()
    }

    /// All, where all are to be written beside the branch now.
    pub fn beside_branch(&self) -> Option<&VecDeque<Fingerprint>> {
        (self.fresh == 0 && !self.points.is_empty()).then_some(&self.points)
    }

    /// Whether any were ever written beside the branch.
    pub fn has_older(&self) -> bool {
        self.points.len() > self.fresh.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(number: usize) -> Fingerprint {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Fingerprint(bytes)
    }

    fn written_with(points: VecDeque<Fingerprint>) -> Passed {
        let count = points.len().try_into().unwrap();
        Passed::resting(points, count)
    }

    /// What is written is found again after every turn, whatever was written when, and little is.
    #[test]
    fn those_that_were_written_are_all_there_are() {
        let (mut passed, mut beside, mut all) = (Passed::default(), VecDeque::new(), Vec::new());
        let mut written = 0;

        for turn in 0..1_000 {
            all.push(point(turn));
            let dropped = passed.push(point(turn));
            if let Some(points) = passed.beside_branch() {
                beside.clone_from(points);
                written += points.len();
            }
            written += passed.with_branch().len();

            let kept = all.len().saturating_sub(PASSED);
            assert_eq!(dropped, kept.checked_sub(1).map(|last| all[last]));
            assert!(passed.iter().eq(&all[kept..]));
            let found = written_with(passed.with_branch()).behind(beside.clone());
            assert_eq!(found, passed);
            assert_eq!(found.has_older(), !beside.is_empty());
        }
        assert!(written < 1_000 * 25, "{written}");
    }

    /// As many as an earlier version has written with it are moved at the next turn.
    #[test]
    fn those_that_are_too_many_are_moved_at_once() {
        let many: VecDeque<_> = (0..PASSED).map(point).collect();
        let mut passed = written_with(many);
        assert!(!passed.has_older());

        passed.push(point(PASSED));

        assert!(passed.with_branch().is_empty());
        assert_eq!(passed.beside_branch().map(VecDeque::len), Some(PASSED));
        let too_many: VecDeque<_> = (0..PASSED + 9).map(point).collect();
        let passed = written_with(too_many);
        assert_eq!(written_with(passed.with_branch()), passed);
    }
}
