//! What was written since the database was: a file of one length beside it, used over and over. What is
//! added to it is one stretch of pages and one sync, where a commit of the database is pages here and there and two.

use std::collections::BTreeMap;
use std::io;

use redb::StorageBackend;

use super::Fault;
use super::entry::{Entry, Keyed, PAGE};
use super::reserve::is_full;
use crate::store::backend::Write;

/// How long the file is, in bytes.
pub const LENGTH: u64 = 2 << 20;

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

/// Makes the file so long, in bytes, and takes its place on the disk, so that no sync finds anything to be written but
/// what was added. As long as it was before, where there is no space for all of that.
pub fn fill(file: &dyn StorageBackend, length: u64) -> io::Result<u64> {
    let zeros = [0; 4 * PAGE];
    let found = file.len()?;
    let mut filled = found;
    while filled < length {
        let longer = length.min(filled + zeros.len() as u64);
        let part = usize::try_from(longer - filled).unwrap_or_default();
        let part = zeros.get(..part).unwrap_or_default();
        match file.set_len(longer).and_then(|()| file.write(filled, part)) {
            Err(error) if is_full(&error) => {
                file.set_len(found)?;
                return Ok(found);
            }
            written => written?,
        }
        filled = longer;
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
    let length = file.len().map_err(Fault::Unreadable)?;
    let keyed = Keyed::of(salt);
    let mut found = BTreeMap::new();
    for at in (0..length).step_by(PAGE) {
        let entry = keyed.found(file, at..length, last.unwrap_or_default());
        let entry = entry.map_err(Fault::Unreadable)?;
        found.extend(entry.map(|entry| (entry.number, entry)));
    }
    let mut entries = Vec::with_capacity(found.len());
    let mut before = last;
    for (number, entry) in found {
        if before.and_then(|before| before.checked_add(1)) != Some(number) {
            return Err(Fault::Apart);
        }
        before = Some(number);
        let entry = entry.read();
        entries.push(entry.ok_or_else(|| Fault::Damaged("its journal means nothing".to_owned()))?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::super::Held;
    use super::super::reserve::tests::Full;
    use super::*;
    use crate::store::backend::Table;

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
    fn without_space_there_is_no_room() {
        let of_three_pages = || Full(InMemoryBackend::new(), |length| length > 3 * PAGE as u64);
        let file = of_three_pages();
        let few = fill(&file, 3 * PAGE as u64).unwrap();
        let more = fill(&file, LENGTH).unwrap();
        assert_eq!((few, more, file.len().unwrap()), (12288, 12288, 12288));
        let mut journal = Journal::new(Box::new(file), more, &SALT, 0);

        let added = [1, 2, 3, 4].map(|number| journal.add(&unit(number, 100), 1).unwrap());

        assert_eq!(added, [true, true, true, false]);
        let none = of_three_pages();
        assert_eq!((fill(&none, LENGTH).unwrap(), none.len().unwrap()), (0, 0));
    }
}
