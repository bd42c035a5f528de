//! What is written to the journal at once, as the file has it.

use std::ops::Range;
use std::{fmt, io};

use bytes::{Buf as _, BufMut as _};
use highway::{HighwayHash as _, HighwayHasher, Key};
use redb::StorageBackend;

use super::former::upgraded;
use super::records::{JOURNALLED_SINCE, stored_as};
use super::seal::SCHEMA;
use crate::store::backend::{Table, Write};

/// Entries begin at pages, in bytes: nothing that is written touches an entry that is durable.
pub const PAGE: usize = 4096;

/// What an entry begins with: its number, when and by which version it was written, and how many bytes of records
/// follow.
const HEAD: usize = 8 + 8 + 1 + 4;

/// What it ends with.
const CHECK: usize = 16;

/// What a record begins with: its table, and how long its key and its value are.
const RECORD: usize = 1 + 2 + 4;

/// What stands for the length of a value where a record is removed.
const REMOVED: u32 = u32::MAX;

/// What was written at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub number: u64,
    /// In milliseconds since the epoch.
    pub written: u64,
    pub writes: Vec<Write>,
}

/// An entry whose records are still as the file has them.
pub struct Found {
    pub number: u64,
    written: u64,
    version: u8,
    records: Vec<u8>,
}

/// The check of an entry. It is keyed: what is left of another state is none of this one's.
#[derive(Clone)]
pub struct Keyed(HighwayHasher);

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

impl Found {
    /// `None` where the records mean nothing.
    pub fn read(self) -> Option<Entry> {
        Some(Entry {
            number: self.number,
            written: self.written,
            writes: writes(&self.records, self.version)?,
        })
    }
}

impl Keyed {
    pub fn of(salt: &[u8; 32]) -> Self {
        let mut key = [0; 4];
        for (word, bytes) in key.iter_mut().zip(salt.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        let mut hash = HighwayHasher::new(Key(key));
        hash.append(b"journal");
        Self(hash)
    }

    fn check(&self, entry: &[u8]) -> [u8; CHECK] {
        let mut hash = self.0.clone();
        hash.append(entry);
        let [low, high] = hash.finalize128();
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }

    /// An entry as the file has it: up to the end of a page.
    pub fn entry(&self, number: u64, now: u64, writes: &[Write]) -> Option<Vec<u8>> {
        let length = writes.iter().map(length_of).sum::<usize>();
        let whole = (HEAD + length + CHECK).next_multiple_of(PAGE);
        let mut entry = Vec::with_capacity(whole);
        entry.put_u64_le(number);
        entry.put_u64_le(now);
        entry.put_u8(SCHEMA);
        entry.put_u32_le(length.try_into().ok()?);
        for write in writes {
            put(&mut entry, write)?;
        }
        let check = self.check(&entry);
        entry.put_slice(&check);
        entry.resize(whole, 0);
        Some(entry)
    }

    /// The entry at the beginning of this part of the file, if there is one behind that with this number.
    pub fn found(
        &self,
        file: &dyn StorageBackend,
        part: Range<u64>,
        behind: u64,
    ) -> io::Result<Option<Found>> {
        let left = part.end - part.start;
        let mut head = [0; HEAD];
        if left < head.len() as u64 {
            return Ok(None);
        }
        file.read(part.start, &mut head)?;
        let Some((found, length)) = headed(&head) else {
            return Ok(None);
        };
        let whole = HEAD + length + CHECK;
        if found.number <= behind || left < whole as u64 {
            return Ok(None);
        }
        let mut entry = vec![0; whole];
        file.read(part.start, &mut entry)?;
        let check = entry.split_off(HEAD + length);
        if self.check(&entry)[..] != check {
            return Ok(None);
        }
        let records = entry.split_off(HEAD);
        Ok(Some(Found { records, ..found }))
    }
}

/// An entry without its records, and how many bytes of them follow.
fn headed(mut head: &[u8]) -> Option<(Found, usize)> {
    let found = Found {
        number: head.try_get_u64_le().ok()?,
        written: head.try_get_u64_le().ok()?,
        version: head.try_get_u8().ok()?,
        records: Vec::new(),
    };
    let length = head.try_get_u32_le().ok()?;
    Some((found, length.try_into().ok()?))
}

fn length_of(write: &Write) -> usize {
    RECORD + write.key.len() + write.value.as_ref().map_or(0, Vec::len)
}

fn put(entry: &mut Vec<u8>, write: &Write) -> Option<()> {
    let Write { table, key, value } = write;
    let number = Table::ALL.iter().position(|other| other == table)?;
    entry.put_u8(number.try_into().ok()?);
    entry.put_u16_le(key.len().try_into().ok()?);
    entry.put_u32_le(match value {
        Some(value) => value.len().try_into().ok()?,
        None => REMOVED,
    });
    entry.put_slice(key);
    entry.put_slice(value.as_deref().unwrap_or_default());
    Some(())
}

/// The records of an entry, as this version would write them.
fn writes(mut records: &[u8], version: u8) -> Option<Vec<Write>> {
    if !(JOURNALLED_SINCE..=SCHEMA).contains(&version) {
        return None;
    }
    let mut writes = Vec::new();
    while let Ok(table) = records.try_get_u8() {
        let table = *Table::ALL.get(usize::from(table))?;
        let key = records.try_get_u16_le().ok()?;
        let value = records.try_get_u32_le().ok()?;
        let mut bytes = |length: usize| {
            let (bytes, rest) = records.split_at_checked(length)?;
            records = rest;
            Some(bytes)
        };
        let key = bytes(key.into())?.to_vec();
        let value = match value {
            REMOVED => None,
            length => Some(bytes(length.try_into().ok()?)?),
        };
        let value = value.map(|value| upgraded(stored_as(table), version, value).into_owned());
        writes.push(Write { table, key, value });
    }
    Some(writes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn entry() -> Vec<u8> {
        let write = |table, value: Option<&[u8]>| Write {
            table,
            key: b"key".to_vec(),
            value: value.map(<[u8]>::to_vec),
        };
        let writes = [
            write(Table::Turns, Some(b"words")),
            write(Table::Branches, Some(b"")),
            write(Table::Passed, None),
        ];
        Keyed::of(&[7; 32]).entry(2, 5, &writes).unwrap()
    }

    fn found(bytes: &[u8]) -> Option<Found> {
        let file = InMemoryBackend::new();
        file.set_len(bytes.len() as u64).unwrap();
        file.write(0, bytes).unwrap();
        let part = 0..bytes.len() as u64;
        Keyed::of(&[7; 32]).found(&file, part, 1).unwrap()
    }

    /// To the byte, as files have them.
    #[test]
    fn the_form_of_an_entry_stays_what_it_is() {
        let entry = entry();

        assert_eq!(entry.len(), PAGE);
        let head = b"\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x07\x23\0\0\0";
        let turn = b"\x02\x03\0\x05\0\0\0keywords";
        let branch = b"\0\x03\0\0\0\0\0key";
        let passed = b"\x05\x03\0\xff\xff\xff\xffkey";
        assert_eq!(entry[..56], [&head[..], turn, branch, passed].concat());
        let check = *b"\xf2\xcc\xe3\x54\xdb\xd5\xb5\x82\x55\x38\x9c\x87\xd7\xf2\x64\xfa";
        assert_eq!(entry[56..72], check);
        assert_eq!(entry[72..], [0; PAGE - 72]);
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_seen() {
        let entry = entry();
        assert!(found(&entry).is_some());

        for bit in 0..8 * 72 {
            let mut flipped = entry.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);

            assert!(found(&flipped).is_none(), "bit {bit}");
        }
        for length in 0..72 {
            assert!(found(&entry[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn records_that_mean_nothing_are_not_read() {
        let all = found(&entry()).unwrap().records;
        for (change, at) in [(99, 0), (200, 1), (6, 3)] {
            let mut records = all.clone();
            records[at] = change;

            assert_eq!(writes(&records, SCHEMA), None, "{change} at {at}");
        }
        assert_eq!(writes(&all[..all.len() - 1], SCHEMA), None);
        for version in [0, JOURNALLED_SINCE - 1, SCHEMA + 1] {
            assert_eq!(writes(&all, version), None, "version {version}");
        }
        let read = writes(&all, JOURNALLED_SINCE);
        assert_eq!(read.map(|writes| writes.len()), Some(3));
    }

    proptest! {
        #[test]
        fn whatever_there_is_is_no_entry_or_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(found(&bytes).is_none());
            if let Some(writes) = writes(&bytes, SCHEMA) {
                let again = Keyed::of(&[7; 32]).entry(2, 5, &writes).unwrap();
                prop_assert_eq!(found(&again).unwrap().records, bytes);
            }
        }
    }
}
