//! What was written since the database was: a file of one length beside it, gone through again and again. What is
//! added to it is one stretch of pages and one sync, where a commit of the database is pages here and there and two.

use std::collections::BTreeMap;
use std::{fmt, io};

use bytes::{Buf as _, BufMut as _};
use highway::{HighwayHash as _, HighwayHasher, Key};
use redb::StorageBackend;

use super::Fault;
use super::reserve::is_full;
use crate::store::backend::{Table, Write};

/// How long the file is, in bytes.
pub const LENGTH: u64 = 2 << 20;

/// Entries begin at pages, in bytes: nothing that is written touches an entry that is durable.
const PAGE: usize = 4096;

/// What an entry begins with: its number, when it was written, and how many bytes of records follow.
const HEAD: usize = 8 + 8 + 4;

/// What it ends with.
const CHECK: usize = 16;

/// What a record begins with: its table, and how long its key and its value are.
const RECORD: usize = 1 + 2 + 4;

/// What stands for the length of a value where a record is taken away.
const TAKEN: u32 = u32::MAX;

/// Where units are written until the database has them. Each write is an entry; entries have numbers, one after the
/// other as long as the state lives, and a place is used again once the database has what is in it.
#[derive(Debug)]
pub struct Journal {
    file: Box<dyn StorageBackend>,
    keyed: Keyed,
    length: u64,
    /// Where the next entry is to stand, in bytes.
    at: u64,
    /// How much before that, around the file's end, the database does not have yet, in bytes.
    ahead: u64,
    /// The number of the last entry.
    last: u64,
}

/// All entries up to one.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub last: u64,
    bytes: u64,
}

/// What was written at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub number: u64,
    /// In milliseconds since the epoch.
    pub written: u64,
    pub writes: Vec<Write>,
}

/// The check of an entry. It is keyed: what is left of another state is none of this one's.
#[derive(Clone)]
struct Keyed(HighwayHasher);

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

/// Makes the file so long, in bytes, and takes its place on the disk, so that no sync finds anything to be written but
/// what was added. As long as it was before, where there is no space for all of that.
pub fn fill(file: &dyn StorageBackend, length: u64) -> io::Result<u64> {
    let zeros = [0; PAGE];
    let found = file.len()?;
    let mut filled = found - found % PAGE as u64;
    while filled < length {
        let longer = file
            .set_len(filled + PAGE as u64)
            .and_then(|()| file.write(filled, &zeros));
        match longer {
            Err(error) if is_full(&error) => {
                file.set_len(found)?;
                return Ok(found);
            }
            longer => longer?,
        }
        filled += PAGE as u64;
    }
    Ok(length)
}

impl Journal {
    /// Of a state with this salt, whose database has all entries up to `last`: they make room for others. The file is
    /// `length` bytes long.
    pub fn new(file: Box<dyn StorageBackend>, length: u64, salt: &[u8; 32], last: u64) -> Self {
        Self {
            file,
            keyed: Keyed::of(salt),
            length,
            at: 0,
            ahead: 0,
            last,
        }
    }

    /// Adds an entry, and returns once it is durable. False where there is no room for it: it has its number, and the
    /// database must have it before the next.
    pub fn add(&mut self, writes: &[Write], now: u64) -> io::Result<bool> {
        let number = self.last + 1;
        let entry = self.keyed.entry(number, now, writes);
        let entry = entry.ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = entry.len() as u64;
        self.last = number;
        if self.ahead == 0 {
            self.at = 0;
        }
        let (at, skipped) = match self.length.checked_sub(self.at) {
            Some(left) if left < bytes => (0, left),
            _ => (self.at, 0),
        };
        if self.ahead + skipped + bytes > self.length {
            return Ok(false);
        }
        self.file.write(at, &entry)?;
        self.file.sync_data()?;
        self.at = at + bytes;
        self.ahead += skipped + bytes;
        Ok(true)
    }

    /// All entries that there are by now.
    pub fn span(&self) -> Span {
        Span {
            last: self.last,
            bytes: self.ahead,
        }
    }

    /// The database has these entries: they make room for others.
    pub fn free(&mut self, span: Span) {
        self.ahead -= span.bytes;
    }

    /// Whether the database should have what is here before there is no room.
    pub fn is_filling(&self) -> bool {
        self.ahead > self.length / 2
    }

    /// The database has all of it, and is closed.
    pub fn end(self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

/// The entries of the state with this salt that its database does not have, in their order; `last` is the number of the
/// last that it has, if it is a database that ever had any. An entry that was being written when the power failed is
/// none. Those that it should follow on were acknowledged, and are missed.
pub fn read(
    file: &dyn StorageBackend,
    salt: &[u8; 32],
    last: Option<u64>,
) -> Result<Vec<Entry>, Fault> {
    let length = file.len().map_err(Fault::Unreadable)?.min(LENGTH);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read(0, &mut bytes).map_err(Fault::Unreadable)?;
    let keyed = Keyed::of(salt);
    let pages = (0..bytes.len()).step_by(PAGE);
    let found = pages.filter_map(|at| keyed.found(bytes.get(at..)?, last.unwrap_or_default()));
    let found: BTreeMap<u64, (u64, &[u8])> = found.collect();
    let mut follow = last.into_iter().flat_map(|last| last + 1..);
    let mut entries = Vec::with_capacity(found.len());
    for (number, (written, records)) in found {
        if follow.next() != Some(number) {
            return Err(Fault::Apart);
        }
        let writes = taken(records);
        entries.push(Entry {
            number,
            written,
            writes: writes.ok_or_else(|| Fault::Damaged("its journal means nothing".to_owned()))?,
        });
    }
    Ok(entries)
}

impl Keyed {
    fn of(salt: &[u8; 32]) -> Self {
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
    fn entry(&self, number: u64, now: u64, writes: &[Write]) -> Option<Vec<u8>> {
        let length = writes.iter().map(length_of).sum::<usize>();
        let whole = (HEAD + length + CHECK).next_multiple_of(PAGE);
        let mut entry = Vec::with_capacity(whole);
        entry.put_u64_le(number);
        entry.put_u64_le(now);
        entry.put_u32_le(length.try_into().ok()?);
        for write in writes {
            put(&mut entry, write)?;
        }
        let check = self.check(&entry);
        entry.put_slice(&check);
        entry.resize(whole, 0);
        Some(entry)
    }

    /// The entry that begins here, if one does that comes behind the one with this number: its own, when it was
    /// written, and its records.
    fn found<'a>(&self, bytes: &'a [u8], behind: u64) -> Option<(u64, (u64, &'a [u8]))> {
        let mut head = bytes;
        let number = head.try_get_u64_le().ok()?;
        let written = head.try_get_u64_le().ok()?;
        let length = usize::try_from(head.try_get_u32_le().ok()?).ok()?;
        let (entry, rest) = bytes.split_at_checked(HEAD.checked_add(length)?)?;
        let is_later = number > behind && rest.first_chunk() == Some(&self.check(entry));
        is_later.then(|| (number, (written, entry.get(HEAD..).unwrap_or_default())))
    }
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
        None => TAKEN,
    });
    entry.put_slice(key);
    entry.put_slice(value.as_deref().unwrap_or_default());
    Some(())
}

/// The records of an entry, as they were put there.
fn taken(mut records: &[u8]) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    while let Ok(table) = records.try_get_u8() {
        let key = records.try_get_u16_le().ok()?;
        let value = records.try_get_u32_le().ok()?;
        let mut bytes = |length: usize| {
            let (bytes, rest) = records.split_at_checked(length)?;
            records = rest;
            Some(bytes.to_vec())
        };
        writes.push(Write {
            table: *Table::ALL.get(usize::from(table))?,
            key: bytes(key.into())?,
            value: match value {
                TAKEN => None,
                length => Some(bytes(length.try_into().ok()?)?),
            },
        });
    }
    Some(writes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::super::Held;
    use super::*;

    const SALT: [u8; 32] = [7; 32];
    const PAGES: u64 = 8;

    #[derive(Clone, Debug)]
    enum Act {
        /// An entry of so many bytes, or somewhat more.
        Add(usize),
        /// The database is given all that there is.
        Span,
        /// It has that.
        Free,
        /// The process is killed, and another goes on.
        Begin,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            6 => (0..3 * PAGE).prop_map(Act::Add),
            1 => Just(Act::Add(PAGES as usize * PAGE)),
            2 => Just(Act::Span),
            2 => Just(Act::Free),
            1 => Just(Act::Begin),
        ];
        prop::collection::vec(act, 1..80)
    }

    fn begin(file: &Held<InMemoryBackend>, last: u64) -> Journal {
        let length = fill(file, PAGES * PAGE as u64).unwrap();
        Journal::new(Box::new(file.clone()), length, &SALT, last)
    }

    fn read(file: &Held<InMemoryBackend>, last: u64) -> Result<Vec<Entry>, Fault> {
        super::read(file, &SALT, Some(last))
    }

    fn empty() -> Held<InMemoryBackend> {
        Held::new(InMemoryBackend::new()).unwrap()
    }

    fn unit(number: u64, length: usize) -> Vec<Write> {
        let write = |table, value| Write {
            table,
            key: number.to_le_bytes().to_vec(),
            value,
        };
        vec![
            write(Table::Turns, Some(vec![number.to_le_bytes()[0]; length])),
            write(Table::Branches, Some(Vec::new())),
            write(Table::Passed, None),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever the database has by then, all that was added beyond that is found.
        #[test]
        fn what_was_added_is_found_until_the_database_has_it(acts in acts()) {
            let file = empty();
            let mut journal = begin(&file, 0);
            let (mut added, mut had, mut span) = (Vec::new(), 0, None);
            for act in acts {
                match act {
                    Act::Add(length) => {
                        let number = journal.span().last + 1;
                        let writes = unit(number, length);
                        if journal.add(&writes, 10 * number).unwrap() {
                            added.push(Entry { number, written: 10 * number, writes });
                        } else {
                            prop_assert!(journal.ahead > 0 || length > 7 * PAGE);
                            let all = journal.span();
                            journal.free(all);
                            (had, span) = (number, None);
                        }
                        prop_assert_eq!(journal.span().last, number);
                    }
                    Act::Span => span = span.or(Some(journal.span())),
                    Act::Free => {
                        if let Some(span) = span.take() {
                            had = span.last;
                            journal.free(span);
                        }
                    }
                    Act::Begin => {
                        (had, span) = (journal.span().last, None);
                        journal = begin(&file, had);
                    }
                }
                let found = read(&file, had).unwrap();
                let expected = added.iter().filter(|entry| entry.number > had);
                prop_assert!(found.iter().eq(expected));
            }
        }
    }

    #[test]
    fn what_another_state_has_left_is_none_of_this_one_s() {
        let file = empty();
        assert!(begin(&file, 4).add(&unit(5, 100), 1).unwrap());

        assert_eq!(read(&file, 4).unwrap().len(), 1);
        assert_eq!(super::read(&file, &[8; 32], Some(4)).unwrap(), []);
    }

    #[test]
    fn entries_without_those_before_them_are_refused() {
        let file = empty();
        let mut journal = begin(&file, 0);
        for number in 1..4 {
            assert!(journal.add(&unit(number, 100), 1).unwrap());
        }
        // The database is of a version that knows of none.
        assert!(matches!(super::read(&file, &SALT, None), Err(Fault::Apart)));
        assert_eq!(super::read(&empty(), &SALT, None).unwrap(), []);

        file.write(PAGE as u64, &[0; 64]).unwrap();

        assert!(matches!(read(&file, 0), Err(Fault::Apart)));
        assert!(matches!(read(&file, 1), Err(Fault::Apart)));
        assert_eq!(read(&file, 2).unwrap().len(), 1);
        assert_eq!(read(&file, 3).unwrap(), []);
    }

    #[test]
    fn a_whole_entry_that_cannot_be_read_is_said_to_be_damage() {
        let file = empty();
        let mut journal = begin(&file, 0);
        let mut entry = journal.keyed.entry(1, 1, &unit(1, 10)).unwrap();
        entry[HEAD] = 99;
        let end = HEAD + usize::from(entry[16]);
        let check = journal.keyed.check(&entry[..end]);
        entry[end..end + CHECK].copy_from_slice(&check);

        file.write(0, &entry).unwrap();

        assert!(matches!(read(&file, 0), Err(Fault::Damaged(_))));
        assert!(journal.add(&unit(1, 10), 1).unwrap());
        assert_eq!(read(&file, 0).unwrap().len(), 1);
    }

    #[test]
    fn without_space_there_is_no_room() {
        /// Of three pages.
        #[derive(Debug)]
        struct Full(InMemoryBackend);

        impl StorageBackend for Full {
            fn len(&self) -> io::Result<u64> {
                self.0.len()
            }

            fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
                self.0.read(at, out)
            }

            fn set_len(&self, len: u64) -> io::Result<()> {
                if len > 3 * PAGE as u64 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0.set_len(len)
            }

            fn sync_data(&self) -> io::Result<()> {
                self.0.sync_data()
            }

            fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
                self.0.write(at, bytes)
            }
        }

        let file = Full(InMemoryBackend::new());
        let few = fill(&file, 3 * PAGE as u64).unwrap();
        let more = fill(&file, LENGTH).unwrap();
        assert_eq!((few, more, file.len().unwrap()), (12288, 12288, 12288));
        let mut journal = Journal::new(Box::new(file), more, &SALT, 0);

        let added = [1, 2, 3, 4].map(|number| journal.add(&unit(number, 100), 1).unwrap());

        assert_eq!(added, [true, true, true, false]);
        let none = Full(InMemoryBackend::new());
        assert_eq!((fill(&none, LENGTH).unwrap(), none.len().unwrap()), (0, 0));
    }

    /// To the byte, as files have them.
    #[test]
    fn the_form_of_an_entry_stays_what_it_is() {
        let file = empty();
        assert!(begin(&file, 1).add(&unit(2, 3), 5).unwrap());

        let mut found = [0; 100];
        file.read(0, &mut found).unwrap();

        assert_eq!(
            found[..20],
            *b"\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x30\0\0\0"
        );
        let turn = b"\x02\x08\0\x03\0\0\0\x02\0\0\0\0\0\0\0\x02\x02\x02";
        let branch = b"\0\x08\0\0\0\0\0\x02\0\0\0\0\0\0\0";
        let passed = b"\x05\x08\0\xff\xff\xff\xff\x02\0\0\0\0\0\0\0";
        assert_eq!(found[20..68], [&turn[..], branch, passed].concat());
        let check = *b"\x39\xb1\x4a\x41\xe3\x6e\x18\xbc\xfc\x53\xce\x30\xab\xe6\x2b\x8b";
        assert_eq!(found[68..84], check);
        assert_eq!(found[84..], [0; 16]);
    }
}
