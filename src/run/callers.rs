//! Who listens to a run, what has reached them, and what is remembered of it.

use std::borrow::Cow;

use super::Error;
use super::mend::Wanted;
use crate::store::record::{self, Cut, Kept, Phase, Times};

/// Who listens to a run, and what has reached them.
#[derive(Debug)]
pub struct Callers {
    pub live: usize,
    /// Those who asked for the response by its id: no request of theirs is repeated.
    pub readers: usize,
    pub times: Times,
    /// What is remembered of it as a response, before and after anything else is.
    pub kept: Option<Box<Kept>>,
    /// Its times and what is kept of it as a response are those here.
    pub record: Remembered,
    /// Nothing is under way: the first caller that asks again has the turn carried on.
    pub asleep: bool,
    /// How a caller that asked again wants the answer, where the record does not say.
    pub wanted: Option<Box<Wanted>>,
}

/// Whether a run, as its callers and its error are, may be attached to.
pub type May<'a> = &'a dyn Fn(&Callers, Option<&Error>) -> bool;

impl Callers {
    /// What is remembered once it is changed.
    pub fn changed(
        &mut self,
        change: impl FnOnce(&mut record::Turn),
    ) -> Option<Cow<'_, record::Turn>> {
        self.record.loosened().map(change);
        self.whole()
    }

    pub fn whole(&mut self) -> Option<Cow<'_, record::Turn>> {
        let mut turn = match &mut self.record {
            Remembered::Nothing => return None,
            Remembered::Loose(turn) => {
                (turn.times, turn.kept) = (self.times, self.kept.clone());
                return Some(Cow::Borrowed(turn));
            }
            Remembered::Packed(line) => line.turn(),
        };
        (turn.times, turn.kept) = (self.times, self.kept.clone());
        Some(Cow::Owned(turn))
    }

    /// Has ended, and nobody is being told.
    pub fn is_idle(&self) -> bool {
        self.times.ended.is_some() && self.is_alone()
    }

    /// Packs what is remembered of a run that has ended, once nobody is being told.
    pub fn pack(&mut self) {
        if self.is_idle() {
            self.record.pack();
        }
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

/// What is remembered of a turn.
#[derive(Debug, Default)]
pub enum Remembered {
    /// No message is meant to be posted yet, or another remembers it.
    #[default]
    Nothing,
    Loose(Box<record::Turn>),
    /// Of one that is seldom looked at, or changed, from here on: in a third of the space.
    Packed(record::TurnLine),
}

impl Remembered {
    pub fn packed(mut turn: record::Turn) -> Self {
        turn.kept = None;
        Self::Packed(record::TurnLine::of(&turn))
    }

    pub fn is_some(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// For one who changes it.
    pub fn loosened(&mut self) -> Option<&mut record::Turn> {
        if let Self::Packed(line) = self {
            *self = Self::Loose(Box::new(line.turn()));
        }
        match self {
            Self::Loose(turn) => Some(turn),
            Self::Packed(_) | Self::Nothing => None,
        }
    }

    fn pack(&mut self) {
        *self = match std::mem::take(self) {
            Self::Loose(turn) => Self::packed(*turn),
            other => other,
        };
    }

    pub fn cut(&self) -> Option<Cut> {
        self.asked(|turn| turn.cut)
    }

    pub fn phase(&self) -> Option<Phase> {
        self.asked(|turn| turn.phase)
    }

    /// Whether the turn is still to be brought to its end; nobody knows where nothing is remembered.
    pub fn is_open(&self) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::Loose(turn) => Some(turn.phase.is_open()),
            Self::Packed(line) => Some(line.is_open),
        }
    }

    fn asked<T>(&self, ask: impl FnOnce(&record::Turn) -> T) -> Option<T> {
        match self {
            Self::Nothing => None,
            Self::Loose(turn) => Some(ask(turn)),
            Self::Packed(line) => Some(ask(&line.turn())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::form::Kind;
    use crate::ids::{Digest, Fingerprint, Mark, ResponseId, Tenant};
    use crate::store::Seen;

    fn turn() -> record::Turn {
        record::Turn {
            tenant: Tenant([1; 32]),
            request: [2; 32],
            keyed: Some([3; 32]),
            conversation: "conversation".to_owned(),
            branch: 4,
            thread: Some("thread".to_owned()),
            posted: Mark([5; 16]),
            seen: Seen::default(),
            before: Fingerprint([6; 16]),
            prompted: Fingerprint([7; 16]),
            window: Vec::new(),
            cut: Cut::At(Some(8)),
            phase: Phase::Accepted,
            times: Times::default(),
            kept: None,
        }
    }

    fn kept() -> Kept {
        Kept {
            id: ResponseId([9; 16]),
            previous: None,
            named: true,
            background: false,
            cancelled: false,
            created: 10,
            model: "model".to_owned(),
            form: Kind::Text,
            point: None,
        }
    }

    fn callers(live: usize) -> Callers {
        Callers {
            live,
            readers: 0,
            times: Times {
                began: Moment(11),
                ended: Some(Moment(12)),
                ..Times::default()
            },
            kept: Some(Box::new(kept())),
            record: Remembered::Loose(Box::new(turn())),
            asleep: false,
            wanted: None,
        }
    }

    #[test]
    fn what_is_packed_is_what_it_was_and_can_be_changed() {
        let phase = Phase::Answered(Digest::default());
        let mut callers = callers(0);
        callers.pack();
        let expected = record::Turn {
            times: callers.times,
            kept: callers.kept.clone(),
            ..turn()
        };

        assert!(matches!(callers.record, Remembered::Packed(_)));
        assert_eq!(callers.record.cut(), Some(turn().cut));
        assert_eq!(callers.record.is_open(), Some(turn().phase.is_open()));
        assert_eq!(callers.whole().as_deref(), Some(&expected));
        callers.kept = None;
        let changed = callers.changed(|turn| turn.phase = phase);
        let expected = record::Turn {
            phase,
            kept: None,
            ..expected
        };
        assert_eq!(changed.as_deref(), Some(&expected));
        callers.pack();
        assert_eq!(callers.record.phase(), Some(phase));
        assert_eq!(callers.record.is_open(), Some(false));
        assert_eq!(callers.whole().as_deref(), Some(&expected));
    }

    #[test]
    fn nothing_is_packed_while_somebody_is_told_or_it_goes_on() {
        let mut heard = callers(1);
        let mut under_way = callers(0);
        under_way.times.ended = None;

        for callers in [&mut heard, &mut under_way] {
            callers.pack();

            assert!(matches!(callers.record, Remembered::Loose(_)));
        }
    }
}
