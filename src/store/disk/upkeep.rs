//! What is done to a state while no proxy uses it: look, make small, begin anew.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use redb::{Builder, Database, StorageBackend};

use super::records::{self, Read, fault};
use super::{
    Error, Facts, Fault, Folder, Held, begins_as_ours, former, unpanicked, unwritten, whole,
};
use crate::store::backend::{Table, Write};

/// What is found in a state.
#[derive(Debug)]
pub struct Report {
    pub size: u64,
    /// `None` where the file does not even tell that.
    pub facts: Option<Facts>,
    pub tables: Vec<TableReport>,
    /// Why a proxy would not start on it.
    pub fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableReport {
    pub table: Table,
    /// Records that are whole.
    pub good: u64,
    /// Records that are not.
    pub bad: u64,
    /// The table came to its end.
    pub is_complete: bool,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    pub before: u64,
    pub after: u64,
}

impl TableReport {
    fn empty(table: Table) -> Self {
        Self {
            table,
            good: 0,
            bad: 0,
            is_complete: false,
        }
    }
}

impl Report {
    pub fn schema(&self) -> Option<u8> {
        self.facts.as_ref().map(|facts| facts.schema)
    }
}

impl Folder {
    /// Reads all of the state and changes nothing.
    pub fn check(&self, read: &mut Read<'_>) -> Result<Report, Error> {
        let size = self.size()?;
        let held = Held::new(self.file_to_read()?);
        let held = held.map_err(|error| self.error(Fault::Unreadable(error)))?;
        let journal = self.journal_to_read()?;
        let mut tables = Table::ALL.map(|table| TableReport {
            is_complete: true,
            ..TableReport::empty(table)
        });
        let read = unpanicked(|| {
            let db = whole(&held, journal.as_ref().map(|journal| journal as _))?;
            records::read(&db, &mut |table, key, value| {
                for report in tables.iter_mut().filter(|report| report.table == table) {
                    report.good += 1;
                }
                read(table, key, value)
            })
        });
        let fault = match read {
            Ok(facts) => {
                return Ok(Report {
                    size,
                    facts: Some(facts),
                    tables: tables.to_vec(),
                    fault: None,
                });
            }
            Err(fault) => fault,
        };
        // Looked at from the start again, and without what was written while it was opened.
        let again = Held::new(self.file_to_read()?);
        let again = again.map_err(|error| self.error(Fault::Unreadable(error)))?;
        let (facts, tables) = unpanicked(|| Ok(readable(&again, size))).unwrap_or_default();
        Ok(Report {
            size,
            facts,
            tables,
            fault: Some(fault),
        })
    }

    /// Writes the state anew without its gaps. It is replaced as a whole, so that a crash leaves the
    /// one or the other.
    pub fn compact(&self) -> Result<Compacted, Error> {
        let before = self.size()?;
        let held = Held::new(self.file_to_read()?);
        let held = held.map_err(|error| self.error(Fault::Unreadable(error)))?;
        let journal = self.journal_to_read()?;
        // It is wanted most where the disk is full.
        self.unreserve();
        let compacted = unpanicked(|| {
            let db = whole(&held, journal.as_ref().map(|journal| journal as _))?;
            let facts = records::facts(&db)?;
            self.replace(&facts, |new| {
                copy(&db, new, &facts)?;
                new.compact().map_err(unwritten)?;
                Ok(())
            })
        });
        compacted.map_err(|error| self.error(error))?;
        self.remove_journal();
        let after = self.size()?;
        Ok(Compacted { before, after })
    }
}

/// Every record, in the order of its keys, which fills the pages of the copy.
fn copy(from: &Database, to: &Database, facts: &Facts) -> Result<(), Fault> {
    const AT_ONCE: usize = 10_000;
    let mut writes = Vec::with_capacity(AT_ONCE);
    let put = |writes: &mut Vec<Write>| {
        let all: Vec<_> = writes.iter().collect();
        let written = records::write(
            to,
            &all,
            facts.written,
            facts.journalled.unwrap_or_default(),
        );
        writes.clear();
        written.map_err(unwritten)
    };
    for table in Table::ALL {
        former::each_in_order(from, table, |key, value| {
            let value =
                value.ok_or_else(|| Fault::Damaged(format!("a record of {}", table.as_str())))?;
            writes.push(Write {
                table,
                key: key.to_vec(),
                value: Some(value.to_vec()),
            });
            if writes.len() < AT_ONCE {
                return Ok(());
            }
            put(&mut writes)
        })?;
    }
    put(&mut writes)
}

/// What of a state can be read at all, its pages unchecked.
fn readable<F: StorageBackend>(held: &Held<F>, size: u64) -> (Option<Facts>, Vec<TableReport>) {
    let opened = unpanicked(|| {
        begins_as_ours(held)?;
        let bounded = Bounded {
            file: held.clone(),
            // Every page a few times.
            reads: AtomicU64::new(size / 1024 + 10_000),
        };
        let mut builder = Builder::new();
        // Without a cache every look at a page is a read, and counted.
        let builder = builder.set_cache_size(0);
        builder.create_with_backend(bounded).map_err(fault)
    });
    let Ok(db) = opened else {
        return (None, Vec::new());
    };
    let facts = unpanicked(|| records::facts(&db)).ok();
    let tables = Table::ALL.map(|table| counted(&db, table));
    (facts, tables.to_vec())
}

fn counted(db: &Database, table: Table) -> TableReport {
    let mut report = TableReport::empty(table);
    let counted = unpanicked(|| {
        records::each(db, table, |_, value| {
            match value {
                Some(_) => report.good += 1,
                None => report.bad += 1,
            }
            Ok(())
        })
    });
    report.is_complete = counted.is_ok();
    report
}

/// Fails after so many reads: damaged pages may lead in a circle.
#[derive(Debug)]
struct Bounded<F> {
    file: F,
    reads: AtomicU64,
}

impl<F: StorageBackend> StorageBackend for Bounded<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if self.reads.load(Relaxed) == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.reads.fetch_sub(1, Relaxed);
        self.file.read(at, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write(at, bytes)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
