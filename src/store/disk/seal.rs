//! A record's value as the file holds it: with its version, a check of its own, and room to grow.

use std::borrow::Cow;

use super::former;
use crate::store::backend::Table;

/// The version of what this program writes. Older ones are read.
pub const SCHEMA: u8 = 7;

/// Before what else a record holds: the version, and the check over table, key, version and all the rest.
const LEAD: usize = 1 + size_of::<u32>();

/// The first version whose records say, in the byte after their check, how much of their end is room.
const ROOM_SINCE: u8 = 6;

/// What a branch's record, and a turn's, has room for from its beginning, in bytes: the first answer of a plain
/// conversation whose name and thread's id have up to 40 characters. A value that keeps its length is changed
/// in a copy of its page; for one of another length the page is put together anew, and halved where it is full.
const BRANCH_LEAST: usize = 224;
const TURN_LEAST: usize = 320;

/// By how much such a record grows at a time.
const STEP: usize = 64;

const BRANCHES: &str = Table::Branches.as_str();
const TURNS: &str = Table::Turns.as_str();

/// What the file holds of a value under this key of this table.
pub fn sealed(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    sealed_by(SCHEMA, table, key, value)
}

/// The same as another version would have it.
pub fn sealed_by(version: u8, table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let spare = (version >= ROOM_SINCE).then(|| room(table, LEAD + 1 + value.len()));
    let zeros = vec![0; spare.map_or(0, usize::from)];
    let rest = [spare.as_slice(), value, &zeros].concat();
    let check = check(table, key, version, &rest).to_le_bytes();
    [&[version][..], &check, &rest].concat()
}

/// How much room a record of this length has to grow, in bytes.
fn room(table: &str, length: usize) -> u8 {
    let least = match table {
        BRANCHES => BRANCH_LEAST,
        TURNS => TURN_LEAST,
        _ => return 0,
    };
    let whole = least + length.saturating_sub(least).next_multiple_of(STEP);
    u8::try_from(whole - length).unwrap_or(u8::MAX)
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

fn check(table: &str, key: &[u8], version: u8, rest: &[u8]) -> u32 {
    let mut check = crc32fast::Hasher::new();
    // Led by their lengths, so that nothing can move from one to the next.
    for part in [table.as_bytes(), key, &[version], rest] {
        check.update(&(part.len() as u64).to_le_bytes());
        check.update(part);
    }
    check.finalize()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::clock::Moment;
    use crate::ids::{Fingerprint, Handle, Mark, Tenant};
    use crate::store::record::{self, Cut, Phase, Times, Turn};
    use crate::store::{Branch, Seen, State};
    use crate::upstream::ThreadId;

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
            let values = [0, 64, 218, 219, 282, 283, 314, 315, 378, 379];
            values.map(|length| {
                let value = vec![7; length];
                let stored = sealed(table, b"key", &value);
                assert_eq!(verified(table, b"key", &stored).as_deref(), Some(&*value));
                stored.len()
            })
        };

        assert_eq!(
            lengths("branches"),
            [224, 224, 224, 288, 288, 352, 352, 352, 416, 416]
        );
        assert_eq!(
            lengths("turns"),
            [261, 320, 320, 320, 320, 320, 320, 384, 384, 448]
        );
        assert_eq!(
            lengths("names"),
            [6, 70, 224, 225, 288, 289, 320, 321, 384, 385]
        );
    }

    /// A conversation whose name and whose thread's id are as long as there is room for.
    fn branch() -> Branch {
        let thread = format!("thread_{}", "1".repeat(33));
        let name = format!("conv_{}", "0".repeat(35));
        Branch {
            handles: vec![Handle(name.into())],
            thread: Some(ThreadId(thread.into())),
            state: State::Open,
            ..Branch::unborn(Tenant([7; 32]), Fingerprint([1; 16]), [2; 32])
        }
    }

    #[test]
    fn a_conversation_takes_as_much_from_its_beginning_as_with_its_first_answer() {
        let now = Moment(u64::MAX >> 8);
        let sealed_now = |branch: &Branch| {
            let value = record::branch(branch, now).unwrap();
            (value.len(), sealed("branches", &[0; 8], &value).len())
        };
        let mut branch = branch();
        let accepted = sealed_now(&branch);
        branch.window = VecDeque::from([[3; 8]; 2]);
        branch.seen = Some(Seen {
            keys: vec![[4; 8]; 2],
            total: 2,
            newest_first: Some(true),
        });
        let answered = sealed_now(&branch);

        assert!(answered.0 > accepted.0 + 32, "{accepted:?}, {answered:?}");
        assert_eq!((accepted.1, answered.1), (BRANCH_LEAST, BRANCH_LEAST));
    }

    #[test]
    fn a_turn_takes_as_much_from_its_beginning_as_at_its_end() {
        let branch = branch();
        let now = Moment(u64::MAX >> 8);
        let mut turn = Turn {
            tenant: branch.tenant,
            request: [3; 32],
            keyed: Some([4; 32]),
            conversation: branch.handles[0].to_string(),
            branch: 100_000,
            thread: None,
            posted: Mark([5; 16]),
            seen: Seen::default(),
            before: branch.tip,
            prompted: branch.tip,
            window: vec![[6; 8]],
            cut: Cut::At(None),
            phase: Phase::Intended,
            times: Times {
                began: now,
                ..Times::default()
            },
            kept: None,
        };
        let sealed_now = |turn: &Turn| {
            let value = record::turn(turn);
            (value.len(), sealed("turns", &[0; 8], &value).len())
        };
        let intended = sealed_now(&turn);
        turn.thread = branch.thread.map(|thread| thread.to_string());
        turn.phase = Phase::Answered([8; 32]);
        turn.times.ended = Some(now);
        turn.times.written = Some(now);
        let told = sealed_now(&turn);

        assert!(told.0 > intended.0 + 64, "{intended:?}, {told:?}");
        assert_eq!((intended.1, told.1), (TURN_LEAST, TURN_LEAST));
    }

    #[test]
    fn records_of_every_version_are_read() {
        for version in 1..=SCHEMA {
            let stored = sealed_by(version, "names", b"key", b"value");

            let found = verified("names", b"key", &stored);
            assert_eq!(found.as_deref(), Some(&b"value"[..]), "version {version}");
        }
        // To the byte, as files have them; and with room, whatever its table.
        for stored in [
            &b"\x05\x76\x70\xd1\x87value"[..],
            b"\x06\xbc\xc7\xc3\x9f\x00value",
            b"\x06\x6a\x03\xdc\x4a\x03value\0\0\0",
        ] {
            let found = verified("names", b"key", stored);
            assert_eq!(found.as_deref(), Some(&b"value"[..]), "{stored:?}");
        }
        let stored = sealed("names", b"key", b"value");
        assert_eq!(stored, b"\x07\x54\x1c\x38\x26\x00value");
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
