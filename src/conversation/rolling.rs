//! A transcript's hash, rolled on by a message at a time: a polynomial over the messages' digests at a
//! secret point, modulo 2^127 - 1. The digests are keyed, and no caller sees them or what they roll up
//! to: that two transcripts of `n` messages have one hash is then as likely as `n` in 2^127 (Karp and
//! Rabin, "Efficient randomized pattern-matching algorithms", 1987).

use std::fmt;

use crate::ids::{Digest, Fingerprint, cut};

const PRIME: u128 = (1 << 127) - 1;
const HALF: u32 = 64;

/// Rolls transcripts on, at its secret point.
#[derive(Clone, Copy)]
pub struct Roller(u128);

impl fmt::Debug for Roller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Roller")
    }
}

impl Roller {
    /// At a point that is made of what is secret.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(reduced(u128::from_le_bytes(cut(secret))))
    }

    /// What the transcript is known by with one message more.
    pub fn roll(self, transcript: Fingerprint, message: &Digest) -> Fingerprint {
        let before = reduced(u128::from_le_bytes(transcript.0));
        let message = reduced(u128::from_le_bytes(cut(message)));
        let after = reduced(times(before, self.0) + message);
        Fingerprint(after.to_le_bytes())
    }
}

/// What is left of it modulo the prime: 2^127 is as good as 1.
fn reduced(number: u128) -> u128 {
    let folded = (number & PRIME) + (number >> 127);
    if folded >= PRIME {
        folded - PRIME
    } else {
        folded
    }
}

/// The product of two reduced numbers, reduced. They are multiplied by halves, as on paper.
fn times(one: u128, other: u128) -> u128 {
    let split = |number: u128| (number >> HALF, u128::from(number as u64));
    let ((a, b), (c, d)) = (split(one), split(other));
    // Neither can overflow: `a` and `c` have 63 bits.
    let middle = a * d + b * c;
    let (low, carry) = (b * d).overflowing_add(middle << HALF);
    let high = a * c + (middle >> HALF) + u128::from(carry);
    // 2^128 is as good as 2.
    reduced(reduced(low) + reduced(high << 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By doubling and adding, a bit at a time.
    fn times_by_bits(one: u128, other: u128) -> u128 {
        (0..127).rev().fold(0, |product, bit| {
            let doubled = reduced(product << 1);
            let added = if other >> bit & 1 == 1 { one } else { 0 };
            reduced(doubled + added)
        })
    }

    /// Mostly near the borders, where carries are.
    fn number() -> impl Strategy<Value = u128> {
        let near = |border: u128| (0..4_u128).prop_map(move |by| reduced(border - by));
        prop_oneof![
            0..PRIME,
            0..4_u128,
            near(PRIME),
            near(1 << 64),
            near(1 << 126)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn products_are_what_doubling_and_adding_gives(one in number(), other in number()) {
            prop_assert_eq!(times(one, other), times_by_bits(one, other));
        }

        #[test]
        fn a_transcript_is_a_polynomial_of_its_digests(
            (secret, seed) in any::<([u8; 32], [u8; 16])>(),
            digests in prop::collection::vec(any::<[u8; 32]>(), 0..8),
        ) {
            let roller = Roller::of(&secret);
            let rolled = digests.iter().fold(Fingerprint(seed), |roll, digest| roller.roll(roll, digest));

            let power = |exponent| (0..exponent).fold(1, |power, _| times(power, roller.0));
            let cut = |digest: &Digest| reduced(u128::from_le_bytes(cut(digest)));
            let terms = digests.iter().rev().zip(0..).map(|(digest, place)| times(cut(digest), power(place)));
            let seeded = times(reduced(u128::from_le_bytes(seed)), power(digests.len()));
            let sum = terms.fold(seeded, |sum, term| reduced(sum + term));
            if !digests.is_empty() {
                prop_assert_eq!(u128::from_le_bytes(rolled.0), sum);
            }
        }
    }

    #[test]
    fn its_point_is_not_shown() {
        assert_eq!(format!("{:?}", Roller::of(&[7; 32])), "Roller");
    }
}
