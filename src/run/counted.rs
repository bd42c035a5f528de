//! Counts of texts that were counted before: callers resend all that was said, turn after turn.

use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;

/// Shorter texts, in bytes, are counted about as fast as they are found.
const WORTH_IT: usize = 256;

/// How many counts are remembered, in 256 KiB: in sets, each of which is read about as fast as one place.
const SETS: usize = 1 << 12;
const WAYS: usize = 8;

/// The bits of an entry that hold the count; above them stands what tells the text from others.
const COUNT_BITS: u32 = 24;
const MOST: u64 = (1 << COUNT_BITS) - 1;

static COUNTED: LazyLock<Counted> = LazyLock::new(Counted::default);

/// Texts by a hash that nobody outside can foresee, of which 52 bits count: that two are taken for one is
/// as good as impossible, and would make an estimate wrong.
struct Counted {
    state: RandomState,
    sets: Box<[[AtomicU64; WAYS]]>,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            state: RandomState::default(),
            sets: (0..SETS).map(|_| Default::default()).collect(),
        }
    }
}

/// What `count` says of the text, or said when it was last asked.
pub fn once(text: &str, count: impl FnOnce(&str) -> u64) -> u64 {
    if text.len() < WORTH_IT {
        return count(text);
    }
    COUNTED.once(text, count)
}

impl Counted {
    fn once(&self, text: &str, count: impl FnOnce(&str) -> u64) -> u64 {
        let hash = self.state.hash_one(text);
        let Some(set) = self.sets.get(hash as usize % SETS) else {
            return count(text);
        };
        let told_by = hash & !MOST;
        let mut free = None;
        for place in set {
            let known = place.load(Ordering::Relaxed);
            if known == 0 {
                free = Some(place);
            } else if known & !MOST == told_by {
                return known & MOST;
            }
        }
        let tokens = count(text);
        // Where all are taken, one of them makes room.
        let taken = set.get((hash as usize / SETS) % WAYS);
        if let Some(place) = free.or(taken).filter(|_| tokens <= MOST) {
            place.store(told_by | tokens, Ordering::Relaxed);
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_text_that_comes_again_is_not_counted_again() {
        let counted = Counted::default();
        let counts = Cell::new(0);
        let count = |text: &str| {
            counts.set(counts.get() + 1);
            text.len() as u64
        };
        let texts = ["one", "another"].map(|word| word.repeat(20));

        for _ in 0..3 {
            for text in &texts {
                assert_eq!(counted.once(text, count), text.len() as u64);
            }
        }

        assert_eq!(counts.get(), 2);
    }

    #[test]
    fn of_more_texts_than_are_remembered_none_has_the_count_of_another() {
        let counted = Counted::default();
        for round in 0..2 {
            for number in 1..=4 * (SETS * WAYS) as u64 {
                let text = number.to_string();
                assert_eq!(counted.once(&text, |_| number), number, "in round {round}");
            }
        }
    }

    #[test]
    fn as_many_texts_of_a_set_are_remembered_as_it_has_room_for() {
        let counted = Counted::default();
        let set = |text: &String| counted.state.hash_one(text.as_str()) as usize % SETS;
        let texts = (0_u64..).map(|number| number.to_string());
        let one_set = texts.filter(|text| set(text) == 0).take(WAYS);
        let one_set: Vec<String> = one_set.collect();

        for text in &one_set {
            assert_eq!(counted.once(text, |_| 1), 1);
        }
        for text in &one_set {
            assert_eq!(counted.once(text, |_| 2), 1, "{text} was counted again");
        }
    }

    #[test]
    fn a_count_that_finds_no_room_is_told_and_not_remembered() {
        let counted = Counted::default();

        for text in ('a'..='z').map(String::from) {
            for count in [MOST + 1, 2 * MOST, MOST] {
                assert_eq!(counted.once(&text, |_| count), count);
            }
            assert_eq!(counted.once(&text, |_| 1), MOST);
        }
    }
}
