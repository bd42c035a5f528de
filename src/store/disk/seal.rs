//! A record's value as the file holds it: with its version, a check of its own, and room to grow.

use std::borrow::Cow;

use super::former;
use crate::store::backend::Table;

/// The version of what this program writes. Older ones are read.
pub const SCHEMA: u8 = 6;

/// Before what else a record holds: the version, and the check over table, key, version and all the rest.
const LEAD: usize = 1 + size_of::<u32>();

/// The first version whose records say, in the byte after their check, how much of their end is room.
const ROOM_SINCE: u8 = 6;

/// What grows as turns go on is as long as a multiple of this. A value that keeps its length is written over
/// where it lies; for a longer one a page is put together anew, and full ones are halved.
const STEP: usize = 64;

const BRANCHES: &str = Table::Branches.as_str();
const TURNS: &str = Table::Turns.as_str();

/// What the file holds of a value under this key of this table.
pub fn sealed(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    sealed_by(SCHEMA, table, key, value)
}

/// The same as another version would have it.
pub fn sealed_by(version: u8, table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let room = match version {
        ROOM_SINCE.. => Some(room(table, LEAD + 1 + value.len())),
        _ => None,
    };
    let zeros = room.map_or(0, usize::from);
    let mut sealed = Vec::with_capacity(LEAD + 1 + value.len() + zeros);
    sealed.extend([version; LEAD]);
    sealed.extend(room);
    sealed.extend(value);
    sealed.resize(sealed.len() + zeros, 0);
    let (_, rest) = sealed.split_at(LEAD);
    let check = check(table, key, version, rest);
    sealed.splice(1..LEAD, check.to_le_bytes());
    sealed
}

/// How much room a record of this length has to grow, in bytes. That of a branch, or of a turn, has as much
/// from its beginning as its first answer takes.
fn room(table: &str, length: usize) -> u8 {
    let least = match table {
        BRANCHES => 3 * STEP,
        TURNS => 4 * STEP,
        _ => return 0,
    };
    let room = length.next_multiple_of(STEP).max(least) - length;
    u8::try_from(room).unwrap_or_default()
}

/// The value, if it is what was put under this key of this table.
pub fn verified<'a>(table: &str, key: &[u8], stored: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let (&version, rest) = stored.split_first()?;
    let (found, rest) = rest.split_first_chunk()?;
    let expected = check(table, key, version, rest);
    let is_known = (1..=SCHEMA).contains(&version);
    if !is_known || u32::from_le_bytes(*found) != expected {
        return None;
    }
    let value = if version >= ROOM_SINCE {
        let (&room, value) = rest.split_first()?;
        value.get(..value.len().checked_sub(room.into())?)?
    } else {
        rest
    };
    Some(former::upgraded(table, version, value))
}

fn check(table: &str, key: &[u8], version: u8, value: &[u8]) -> u32 {
    let mut check = crc32fast::Hasher::new();
    // Led by their lengths, so that nothing can move from one to the next.
    for part in [table.as_bytes(), key, &[version], value] {
        check.update(&(part.len() as u64).to_le_bytes());
        check.update(part);
    }
    check.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_only_in_its_own_place() {
        let stored = sealed("turns", b"key", b"value");

        assert_eq!(
            verified("turns", b"key", &stored),
            Some(Cow::Borrowed(b"value".as_slice()))
        );
        assert_eq!(verified("handles", b"key", &stored), None);
        assert_eq!(verified("turns", b"yek", &stored), None);
        assert_eq!(verified("turns", b"key", &stored[..stored.len() - 1]), None);
        assert_eq!(verified("turns", b"", &[]), None);
        let moved = [&stored[..], b""].concat();
        assert_eq!(verified("turn", b"skey", &moved), None);
    }

    #[test]
    fn a_value_that_grows_keeps_its_length_in_the_file_for_a_while() {
        let lengths = |table: &str| {
            let values =
                [0, 70, 185, 186, 187, 249, 250, 251, 314, 315].map(|length| vec![7; length]);
            values.map(|value| {
                let stored = sealed(table, b"key", &value);
                assert_eq!(verified(table, b"key", &stored).as_deref(), Some(&*value));
                stored.len()
            })
        };

        assert_eq!(
            lengths("branches"),
            [192, 192, 192, 192, 256, 256, 256, 320, 320, 384]
        );
        assert_eq!(
            lengths("turns"),
            [256, 256, 256, 256, 256, 256, 256, 320, 320, 384]
        );
        assert_eq!(
            lengths("names"),
            [6, 76, 191, 192, 193, 255, 256, 257, 320, 321]
        );
    }

    #[test]
    fn records_of_every_version_are_read() {
        for version in 2..=SCHEMA {
            let stored = sealed_by(version, "branches", b"key", b"value");

            let found = verified("branches", b"key", &stored);
            assert_eq!(found.as_deref(), Some(&b"value"[..]), "version {version}");
            assert_eq!(stored.len() > LEAD + 5, version >= ROOM_SINCE);
        }
    }

    #[test]
    fn a_record_with_more_room_than_it_is_long_is_not_whole() {
        let rest = [3, 1, 2];
        let check = check("turns", b"key", SCHEMA, &rest).to_le_bytes();

        let stored = [&[SCHEMA][..], &check, &rest].concat();

        assert_eq!(verified("turns", b"key", &stored), None);
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_seen() {
        let stored = sealed("turns", b"key", b"a value of some length");

        for bit in 0..8 * stored.len() {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);

            assert_eq!(verified("turns", b"key", &flipped), None, "bit {bit}");
        }
    }
}
