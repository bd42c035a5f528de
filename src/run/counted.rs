//! Counts of texts that were counted before: callers resend all that was said, turn after turn.

use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;

/// Shorter texts, in bytes, are counted as fast as they are found.
const WORTH_IT: usize = 64;

/// How many counts are remembered; each takes the place of another one. In all they take 128 KiB.
const PLACES: usize = 1 << 14;

/// The bits of an entry that hold the count; above them stands what tells the text from others.
const COUNT_BITS: u32 = 24;
const MOST: u64 = (1 << COUNT_BITS) - 1;

static COUNTED: LazyLock<Counted> = LazyLock::new(Counted::default);

/// Texts by a hash that nobody outside can foresee, of which 54 bits count: that two are taken for one is
/// as good as impossible, and would make an estimate wrong.
struct Counted {
    state: RandomState,
    places: Box<[AtomicU64]>,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            state: RandomState::default(),
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// What `count` says of the text, or said when it was last asked. It must not say 0.
pub fn once(text: &str, count: impl FnOnce(&str) -> u64) -> u64 {
    if text.len() < WORTH_IT {
        return count(text);
    }
    COUNTED.once(text, count)
}

impl Counted {
    fn once(&self, text: &str, count: impl FnOnce(&str) -> u64) -> u64 {
        let hash = self.state.hash_one(text);
        let Some(place) = self.places.get(hash as usize % PLACES) else {
            return count(text);
        };
        let told_by = hash & !MOST;
        let known = place.load(Ordering::Relaxed);
        if known & !MOST == told_by && known & MOST > 0 {
            return known & MOST;
        }
        let tokens = count(text);
        if tokens <= MOST {
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
            for number in 1..=4 * PLACES as u64 {
                let text = number.to_string();
                assert_eq!(counted.once(&text, |_| number), number, "in round {round}");
            }
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
