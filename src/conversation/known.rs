//! Messages that were sent before, known by the bytes that they were sent as: callers resend all that was
//! said, turn after turn, and what is known need not be read again.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use highway::{HighwayHash as _, HighwayHasher};

use super::fingerprint::digest;
use super::salt::Salt;
use super::{Message, Role};
use crate::ids::{Digest, Tenant};

/// Shorter messages, in bytes, are read about as fast as they are found.
const SHORTEST: usize = 256;

/// Longer ones take long to read, which is not to be done later, where others wait.
const LONGEST: usize = 64 * 1024;

/// How many messages are remembered, in 2 MiB that are taken with the first of them.
const SLOTS: usize = 1 << 15;

/// In how many places a message may be.
const WAYS: usize = 4;

/// What is asked of each message of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub role: Role,
    pub digest: Digest,
    /// As estimated.
    pub tokens: u64,
}

/// What is known of messages of plain text. The hash that they are found by is keyed, 128 bits long, and
/// seen by nobody.
pub struct Known {
    salt: Salt,
    hash: HighwayHasher,
    slots: OnceLock<Box<[Slot]>>,
}

/// What is known of the messages of one tenant: nobody can tell what others have sent.
#[derive(Clone)]
pub struct KnownOf {
    known: Arc<Known>,
    hash: HighwayHasher,
}

/// What a message is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHash([u64; 2]);

/// A hash, and what is known by it: one line of a processor's cache, read and written without a lock. Its
/// last word is what all others give together, so that a slot that is read while it is written holds
/// nothing.
#[derive(Default)]
#[repr(align(64))]
struct Slot([AtomicU64; 8]);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

impl fmt::Debug for KnownOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownOf")
    }
}

impl Known {
    /// Of messages whose digests are made with this salt.
    pub fn new(salt: &Salt) -> Self {
        Self {
            salt: salt.clone(),
            hash: salt.quick("messages as sent"),
            slots: OnceLock::new(),
        }
    }

    fn insert(&self, hash: RawHash, facts: &Facts) {
        let slots = self
            .slots
            .get_or_init(|| (0..SLOTS).map(|_| Slot::default()).collect());
        let slots = ways(slots, hash);
        let own = slots.clone().find(|slot| slot.is_of(hash));
        let free = || slots.clone().find(|slot| slot.is_free());
        // Where there is no room, one of them makes room. Whoever sends much drives out what others have
        // sent: that is read again, and nothing is lost but time.
        let taken = || slots.clone().next();
        if let Some(slot) = own.or_else(free).or_else(taken) {
            slot.set(hash, facts);
        }
    }
}

impl KnownOf {
    pub fn new(known: Arc<Known>, tenant: &Tenant) -> Self {
        let mut hash = known.hash.clone();
        hash.append(&tenant.0);
        Self { known, hash }
    }

    /// `None` where the message is not worth remembering.
    pub fn hash(&self, json: &[u8]) -> Option<RawHash> {
        if !(SHORTEST..=LONGEST).contains(&json.len()) {
            return None;
        }
        let mut hash = self.hash.clone();
        hash.append(json);
        Some(RawHash(hash.finalize128()))
    }

    fn facts(&self, hash: RawHash) -> Option<Facts> {
        let slots = self.known.slots.get()?;
        ways(slots, hash).find_map(|slot| slot.facts(hash))
    }

    /// Of each, in this order.
    pub fn facts_of(&self, hashes: &[Option<RawHash>]) -> Vec<Option<Facts>> {
        // A word of each is read before any is compared, so that memory is waited for once; without `black_box`
        // that would be left out.
        if let Some(slots) = self.known.slots.get() {
            let first = hashes
                .iter()
                .flatten()
                .filter_map(|hash| ways(slots, *hash).next());
            black_box(first.fold(0, |words, slot| words ^ slot.word(0)));
        }
        hashes.iter().map(|hash| self.facts((*hash)?)).collect()
    }

    /// Remembers the message by its hash, if it is nothing but text.
    pub fn learn(&self, hash: RawHash, message: &mut Message, tokens: u64) {
        if message.is_plain() {
            let facts = Facts {
                role: message.role,
                digest: digest(&self.known.salt, message),
                tokens,
            };
            self.known.insert(hash, &facts);
            message.text.learn(facts);
        }
    }
}

/// Where a message may be, where it is looked for first at first.
fn ways(slots: &[Slot], RawHash([low, high]): RawHash) -> impl Iterator<Item = &Slot> + Clone {
    let set = low as usize % (SLOTS / WAYS) * WAYS;
    let slots = slots.get(set..set + WAYS).unwrap_or_default();
    slots.iter().cycle().skip(high as usize % WAYS).take(WAYS)
}

impl Slot {
    fn word(&self, at: usize) -> u64 {
        self.0
            .get(at)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn is_free(&self) -> bool {
        self.word(7) == 0
    }

    fn is_of(&self, RawHash([low, high]): RawHash) -> bool {
        self.word(0) == low && self.word(1) == high
    }

    fn facts(&self, hash: RawHash) -> Option<Facts> {
        if !self.is_of(hash) {
            return None;
        }
        let RawHash([low, high]) = hash;
        let words = [2, 3, 4, 5, 6].map(|at| self.word(at));
        let [a, b, c, d, said] = words;
        if self.word(7) != check([low, high, a, b, c, d, said]) {
            return None;
        }
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Some(Facts {
            role: match said % 4 {
                1 => Role::User,
                2 => Role::Assistant,
                _ => return None,
            },
            digest,
            tokens: said / 4,
        })
    }

    fn set(&self, RawHash([low, high]): RawHash, facts: &Facts) {
        let role = match facts.role {
            Role::User => 1,
            Role::Assistant => 2,
            Role::Tool => return,
        };
        let said = facts.tokens.saturating_mul(4) | role;
        let mut words = [low, high, 0, 0, 0, 0, said, 0];
        for (word, bytes) in words.iter_mut().skip(2).zip(facts.digest.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        let [a, b, c, d, e, f, g, _] = words;
        let last = check([a, b, c, d, e, f, g]);
        for (slot, word) in self.0.iter().zip([a, b, c, d, e, f, g, last]) {
            slot.store(word, Ordering::Relaxed);
        }
    }
}

/// What the words of a slot give together. They are as good as random, so that words of two messages do not
/// give what those of one do.
fn check(words: [u64; 7]) -> u64 {
    words
        .into_iter()
        .fold(!0, |check, word| check.rotate_left(9) ^ word)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn known() -> KnownOf {
        let known = Known::new(&Salt::fixed([7; 32]));
        KnownOf::new(Arc::new(known), &Tenant([1; 32]))
    }

    fn facts(number: u64) -> Facts {
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(8).zip(1..) {
            bytes.copy_from_slice(&number.wrapping_mul(word).to_le_bytes());
        }
        Facts {
            role: [Role::User, Role::Assistant][number as usize % 2],
            digest,
            tokens: number,
        }
    }

    /// That of a message which nothing else has.
    fn hash(known: &KnownOf, number: u64) -> RawHash {
        known
            .hash(format!("{number:SHORTEST$}").as_bytes())
            .unwrap()
    }

    #[test]
    fn a_message_is_known_by_all_of_its_bytes() {
        let known = known();
        let text = |last: char| "a".repeat(SHORTEST) + &last.to_string();
        let hashes = ['a', 'b'].map(|last| known.hash(text(last).as_bytes()).unwrap());

        known.known.insert(hashes[0], &facts(3));

        assert_eq!(hashes.map(|hash| known.facts(hash)), [Some(facts(3)), None]);
    }

    #[test]
    fn what_is_short_or_very_long_is_not_remembered() {
        let known = known();
        for (length, is_worth_it) in [
            (0, false),
            (SHORTEST - 1, false),
            (SHORTEST, true),
            (LONGEST, true),
            (LONGEST + 1, false),
        ] {
            let hash = known.hash(&vec![b'a'; length]);

            assert_eq!(hash.is_some(), is_worth_it, "{length}");
        }
    }

    #[test]
    fn most_of_as_many_as_there_is_half_the_room_for_are_remembered() {
        let known = known();
        let hashes: Vec<(RawHash, u64)> = (1..=SLOTS as u64 / 2)
            .map(|number| (hash(&known, number), number))
            .collect();

        for (hash, number) in &hashes {
            known.known.insert(*hash, &facts(*number));
        }

        let found = hashes.iter().filter(|(hash, number)| {
            let found = known.facts(*hash);
            assert!(
                found.is_none_or(|found| found == facts(*number)),
                "{number}"
            );
            found.is_some()
        });
        let found = found.count();
        assert!(found > hashes.len() * 9 / 10, "{found} of {}", hashes.len());
    }

    #[test]
    fn the_newest_is_remembered_and_nothing_twice() {
        let known = known();
        let set = |RawHash([low, _]): RawHash| low as usize % (SLOTS / WAYS);
        let first = hash(&known, 0);
        let hashes = (1..).map(|number| (hash(&known, number), number));
        let mut one_set = hashes.filter(|(hash, _)| set(*hash) == set(first));

        for _ in 0..2 * WAYS {
            known.known.insert(first, &facts(0));
        }
        let others: Vec<(RawHash, u64)> = one_set.by_ref().take(WAYS - 1).collect();
        for (hash, number) in &others {
            known.known.insert(*hash, &facts(*number));
        }
        for (hash, number) in others.iter().chain(&[(first, 0)]) {
            assert_eq!(known.facts(*hash), Some(facts(*number)));
        }

        for (hash, number) in one_set.take(2 * WAYS) {
            known.known.insert(hash, &facts(number));
            assert_eq!(known.facts(hash), Some(facts(number)));
        }
    }

    #[test]
    fn what_is_read_while_it_is_written_is_right_or_nothing() {
        let known = known();
        let hashes: Vec<(RawHash, u64)> = (1..=16)
            .map(|number| (hash(&known, number), number))
            .collect();
        let slot = Slot::default();
        let writing = AtomicU64::new(4);

        thread::scope(|threads| {
            for part in hashes.chunks(4) {
                let (slot, writing) = (&slot, &writing);
                threads.spawn(move || {
                    for (hash, number) in part.iter().cycle().take(100_000) {
                        slot.set(*hash, &facts(*number));
                    }
                    writing.fetch_sub(1, Ordering::Release);
                });
            }
            while writing.load(Ordering::Acquire) > 0 {
                for (hash, number) in &hashes {
                    let read = slot.facts(*hash);
                    assert!(read.is_none_or(|read| read == facts(*number)), "{number}");
                }
            }
        });

        let last = hashes.iter().filter_map(|(hash, _)| slot.facts(*hash));
        assert!(last.count() <= 1);
    }
}
