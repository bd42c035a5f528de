//! Records in files that outlive the process, and power cuts; read once, at the start, then only written.

mod alarm;
mod entry;
mod files;
mod folder;
mod former;
mod held;
mod journal;
mod records;
mod reserve;
mod seal;
mod upkeep;
mod writer;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, StorageBackend};

pub use folder::{FILE, Folder};
pub use held::Held;
pub use records::{Facts, Read};
pub use seal::SCHEMA;
pub use upkeep::{Compacted, Report, TableReport};
pub use writer::{Disk, Serving};

use crate::ids::TextHash;
use crate::store::backend::Write;
use files::Files;
use journal::Journal;
use records::fault;
use reserve::{Reserve, Spared};

/// Everything is read once, so there is little to gain from more.
const CACHE: usize = 4 << 20;

/// Why a state file is not used. It is left as it is, to the byte, unless it is writing to it that fails.
#[derive(Debug)]
pub struct Error {
    pub path: PathBuf,
    pub fault: Fault,
}

/// What is wrong with a state file, as a sentence that begins with its path.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(
        "is in use by another proxy; stop that one, or give this one a folder of its own with --state-dir"
    )]
    Busy,
    #[error(
        "is no state file of this program and is left as it is; move it away, or choose another folder with --state-dir"
    )]
    Foreign,
    #[error(
        "was written by a newer version of this program and is left as it is; use that version, or begin anew with `chaturdata-proxy state reset`"
    )]
    Newer,
    #[error(
        "is damaged ({0}) and is left as it is; `chaturdata-proxy state check` tells what of it can be read, `chaturdata-proxy state reset` begins anew"
    )]
    Damaged(String),
    #[error(
        "is not what state.journal beside it follows on, and both are left as they are; remove state.journal if this file is a copy that was put back, or begin anew with `chaturdata-proxy state reset`"
    )]
    Apart,
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
    #[error(
        "cannot be written; make room, choose another folder with --state-dir, or keep nothing over a restart with store.kind = \"memory\""
    )]
    Unwritable(#[source] io::Error),
    #[error("cannot be made: the system gives no random numbers")]
    NoRandomness(#[source] getrandom::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.fault)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

/// An opened state.
#[derive(Debug)]
pub struct Opened {
    pub disk: Disk,
    /// Writes what is queued, until the disk is closed: nothing is written unless it is polled.
    pub serving: Serving,
    pub facts: Facts,
    /// There was no file before.
    pub is_new: bool,
}

impl Disk {
    /// Opens the state in a folder, which is made where it is missing, and hands over every record.
    /// Blocks: this is for the start of the program.
    pub fn open(dir: &Path, read: &mut Read<'_>) -> Result<Opened, Error> {
        let folder = Folder::lock(dir)?;
        let is_new = folder.begin()?;
        // After the state, which comes first where there is little space.
        let reserve = Reserve::hold(dir);
        let file = Spared::new(folder.file()?, reserve.clone());
        let journal = folder.journal()?;
        let opened = open(file, &journal, read);
        let (db, facts) = opened.map_err(|fault| folder.error(fault))?;
        // Not into the reserve: there can be a state without a journal.
        let length = journal::fill(&journal, journal::LENGTH);
        let length = length.map_err(|error| folder.journal_error(Fault::Unwritable(error)))?;
        let journal = Spared::new(journal, reserve.clone());
        let journal = journal_of(&facts, Box::new(journal), length);
        let files = Files::new(db, journal, Some(folder));
        let (disk, serving) = writer::writer(files, reserve);
        Ok(Opened {
            disk,
            serving,
            facts,
            is_new,
        })
    }

    /// The same on storage that is no folder: for the database, and for a journal of at most `length` bytes.
    pub fn open_on(
        storage: impl StorageBackend,
        (journal, length): (impl StorageBackend, u64),
        read: &mut Read<'_>,
    ) -> Result<Opened, Fault> {
        let is_new = storage.len().map_err(Fault::Unreadable)? == 0;
        let (db, facts) = if is_new {
            let facts = fresh()?;
            (begin(storage, &facts)?, facts)
        } else {
            open(storage, &journal, read)?
        };
        let length = journal::fill(&journal, length).map_err(Fault::Unwritable)?;
        let journal = journal_of(&facts, Box::new(journal), length);
        let (disk, serving) = writer::writer(Files::new(db, journal, None), Reserve::default());
        Ok(Opened {
            disk,
            serving,
            facts,
            is_new,
        })
    }
}

/// The journal of a database that has all that was in it.
fn journal_of(facts: &Facts, file: Box<dyn StorageBackend>, length: u64) -> Journal {
    let last = facts.journalled.unwrap_or_default();
    Journal::new(file, length, &facts.salt, last)
}

/// The facts of a file that is about to be made.
fn fresh() -> Result<Facts, Fault> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(Fault::NoRandomness)?;
    Ok(Facts {
        salt,
        texts: TextHash::Highway,
        written: writer::now(),
        journalled: Some(0),
        schema: SCHEMA,
    })
}

/// Makes a state in empty storage.
fn begin(storage: impl StorageBackend, facts: &Facts) -> Result<Database, Fault> {
    let begun = Builder::new()
        .set_cache_size(CACHE)
        .create_with_backend(storage)
        .map_err(redb::Error::from)
        .and_then(|db| records::begin(&db, facts).map(|()| db));
    begun.map_err(unwritten)
}

/// What an error of writing means.
fn unwritten(error: impl Into<redb::Error>) -> Fault {
    match fault(error) {
        Fault::Unreadable(error) => Fault::Unwritable(error),
        other => other,
    }
}

/// Opens a state that is there. The storage is written to only once every record has been taken.
fn open(
    storage: impl StorageBackend,
    journal: &dyn StorageBackend,
    read: &mut Read<'_>,
) -> Result<(Database, Facts), Fault> {
    let held = Held::new(storage).map_err(Fault::Unreadable)?;
    let (db, facts) = unpanicked(|| {
        let db = whole(&held, Some(journal))?;
        let facts = records::read(&db, read)?;
        Ok((db, facts))
    })?;
    held.let_through().map_err(Fault::Unwritable)?;
    unpanicked(|| former::bring_up(&db, &facts))?;
    Ok((db, facts))
}

/// The database in this storage with all that the journal has beyond it.
fn whole<F: StorageBackend>(
    held: &Held<F>,
    journal: Option<&dyn StorageBackend>,
) -> Result<Database, Fault> {
    let db = verified(held)?;
    if let Some(journal) = journal {
        catch_up(&db, journal)?;
    }
    Ok(db)
}

/// Puts what the journal has beyond it into the database.
fn catch_up(db: &Database, journal: &dyn StorageBackend) -> Result<(), Fault> {
    let facts = records::facts(db)?;
    let entries = journal::read(journal, &facts.salt, facts.journalled)?;
    let Some(newest) = entries.last() else {
        return Ok(());
    };
    let (number, written) = (newest.number, newest.written);
    let writes = entries.into_iter().flat_map(|entry| entry.writes);
    let writes: Vec<Write> = writes.collect();
    let last = records::last_of_each(&writes);
    records::write(db, &last, written, number).map_err(fault)
}

/// The database in this storage, every page of which has been checked.
fn verified<F: StorageBackend>(held: &Held<F>) -> Result<Database, Fault> {
    begins_as_ours(held)?;
    Builder::new()
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .create_with_backend(held.clone())
        .map_err(fault)
}

/// Whether it is the kind of file that this program makes. Nothing would be made of an empty one.
fn begins_as_ours(storage: &impl StorageBackend) -> Result<(), Fault> {
    const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
    let len = storage.len().map_err(Fault::Unreadable)?;
    if len < MAGIC.len() as u64 {
        return Err(Fault::Damaged("it is cut off".to_owned()));
    }
    let mut found = [0; MAGIC.len()];
    storage.read(0, &mut found).map_err(Fault::Unreadable)?;
    if found == *MAGIC {
        Ok(())
    } else {
        Err(Fault::Foreign)
    }
}

/// The database panics on some damage; that is then what is told of the file.
fn unpanicked<T>(look: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| {
        let what = "reading it fails in a way that only damage explains";
        Err(Fault::Damaged(what.to_owned()))
    })
}
