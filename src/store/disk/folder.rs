//! The folder that the state is in: one process at a time, and a file that is there whole or not at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use super::reserve::RESERVE;
use super::{Error, Facts, Fault};
use crate::store::private::{private_dir, private_file, sync_dir};

/// The state's file in its folder.
pub const FILE: &str = "state.redb";

/// What the state's file does not have yet, while a process writes to it or after one was killed.
const JOURNAL: &str = "state.journal";

/// Held by the process that uses the state, and empty. The state's own file may be replaced.
const LOCK: &str = "state.lock";

/// Becomes the state's file once it is whole.
const NEW: &str = "state.redb.new";

/// A folder that no other process uses as long as this lives.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    path: PathBuf,
    /// `None` where nobody has ever had it: the folder was never used, or does not exist.
    _lock: Option<File>,
}

impl Folder {
    /// Takes the folder, and makes it where it is missing.
    pub fn lock(dir: &Path) -> Result<Self, Error> {
        let lock = dir.join(LOCK);
        let unwritable = |error| Error {
            path: dir.to_owned(),
            fault: Fault::Unwritable(error),
        };
        private_dir(dir).map_err(unwritable)?;
        let file = private_file().truncate(false).open(&lock);
        Self::locked(dir, Some(file.map_err(unwritable)?), File::try_lock)
    }

    /// Takes the folder to look at it, without making or changing anything in it.
    pub fn lock_untouched(dir: &Path) -> Result<Self, Error> {
        let lock = match File::open(dir.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Error {
                    path: dir.join(LOCK),
                    fault: Fault::Unreadable(error),
                });
            }
            Ok(file) => Some(file),
        };
        // A file that is only read can be locked so on every file system.
        Self::locked(dir, lock, File::try_lock_shared)
    }

    fn locked(
        dir: &Path,
        lock: Option<File>,
        take: fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, Error> {
        let folder = Self {
            dir: dir.to_owned(),
            path: dir.join(FILE),
            _lock: None,
        };
        match lock.as_ref().map(take) {
            None | Some(Ok(())) => Ok(Self {
                _lock: lock,
                ..folder
            }),
            Some(Err(TryLockError::WouldBlock)) => Err(folder.error(Fault::Busy)),
            Some(Err(TryLockError::Error(error))) => Err(Error {
                path: dir.join(LOCK),
                fault: Fault::Unwritable(error),
            }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn error(&self, fault: Fault) -> Error {
        Error {
            path: self.path.clone(),
            fault,
        }
    }

    /// Whether there is a state.
    pub fn is_used(&self) -> Result<bool, Error> {
        let exists = fs::exists(&self.path);
        exists.map_err(|error| self.error(Fault::Unreadable(error)))
    }

    /// Makes an empty state if there is none, and says whether it did.
    pub fn begin(&self) -> Result<bool, Error> {
        if self.is_used()? {
            return Ok(false);
        }
        // One that is left belongs to a state that is gone.
        self.remove_journal();
        let made = super::fresh().and_then(|facts| self.replace(&facts, |_| Ok(())));
        made.map_err(|error| self.error(error))?;
        Ok(true)
    }

    /// Puts a new state in the place of what is there, at once and for good, once it is filled. Where
    /// that fails, what is there stays.
    pub fn replace(
        &self,
        facts: &Facts,
        fill: impl FnOnce(&mut redb::Database) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let new = self.dir.join(NEW);
        let replaced = Self::filled(&new, facts, fill).and_then(|()| {
            fs::rename(&new, &self.path)
                .and_then(|()| sync_dir(&self.dir))
                .map_err(Fault::Unwritable)
        });
        if replaced.is_err() {
            // It may be all that fills the disk.
            let _ = fs::remove_file(&new);
        }
        replaced
    }

    /// Makes a state in a file of its own, and has it written out.
    fn filled(
        new: &Path,
        facts: &Facts,
        fill: impl FnOnce(&mut redb::Database) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let file = private_file().read(true).truncate(true).open(new);
        let storage = FileBackend::new(file.map_err(Fault::Unwritable)?).map_err(super::fault)?;
        let mut db = super::begin(storage, facts)?;
        fill(&mut db)?;
        db.close().map_err(super::unwritten)?;
        let file = File::open(new).and_then(|file| file.sync_all());
        file.map_err(Fault::Unwritable)
    }

    /// The state's file, to be read and written.
    pub fn file(&self) -> Result<FileBackend, Error> {
        self.opened(OpenOptions::new().read(true).write(true))
    }

    /// The state's file, to be read.
    pub fn file_to_read(&self) -> Result<FileBackend, Error> {
        self.opened(OpenOptions::new().read(true))
    }

    /// The journal, to be read and written: an empty one where there is none, which is in its folder for good.
    pub fn journal(&self) -> Result<FileBackend, Error> {
        let path = self.journal_path();
        let file = private_file().read(true).truncate(false).open(path);
        let file = file.and_then(|file| sync_dir(&self.dir).map(|()| file));
        self.journal_in(file.map_err(Fault::Unwritable))
    }

    /// The journal, to be read, where there is one.
    pub fn journal_to_read(&self) -> Result<Option<FileBackend>, Error> {
        match File::open(self.journal_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(self.journal_in(file.map_err(Fault::Unreadable))?)),
        }
    }

    /// What is in it is in the state's file too, or is not wanted any more.
    pub fn remove_journal(&self) {
        let _ = fs::remove_file(self.journal_path());
    }

    fn journal_in(&self, file: Result<File, Fault>) -> Result<FileBackend, Error> {
        let file = file.and_then(|file| FileBackend::new(file).map_err(super::fault));
        file.map_err(|fault| self.journal_error(fault))
    }

    pub fn journal_error(&self, fault: Fault) -> Error {
        Error {
            path: self.journal_path(),
            fault,
        }
    }

    fn journal_path(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    fn opened(&self, options: &OpenOptions) -> Result<FileBackend, Error> {
        let file = options.open(&self.path);
        let file = file.map_err(|error| self.error(Fault::Unreadable(error)))?;
        FileBackend::new(file).map_err(|error| self.error(super::fault(error)))
    }

    /// How large the state's file is.
    pub fn size(&self) -> Result<u64, Error> {
        let found = fs::metadata(&self.path);
        let found = found.map_err(|error| self.error(Fault::Unreadable(error)))?;
        Ok(found.len())
    }

    /// Gives up the space that is held for a proxy, which takes it again at its start.
    pub fn unreserve(&self) {
        let _ = fs::remove_file(self.dir.join(RESERVE));
    }

    /// Removes the state.
    pub fn clear(&self) -> Result<(), Error> {
        self.unreserve();
        let removed = match fs::remove_file(self.dir.join(NEW)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::remove_file(&self.path).and_then(|()| sync_dir(&self.dir)),
        };
        removed.map_err(|error| self.error(Fault::Unwritable(error)))?;
        // It belongs to what is gone.
        self.remove_journal();
        Ok(())
    }
}
