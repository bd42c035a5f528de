//! Space that is held back, so that what is under way can be written down when the disk is full.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use tracing::warn;

use crate::store::private::private_file;

/// The file in the state's folder whose place on the disk is held.
pub const RESERVE: &str = "state.reserve";

const SIZE: u64 = 4 << 20;

/// What one write of it holds: nothing that a file system could make smaller.
const BLOCK: usize = 64 << 10;

/// The space that a process holds. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Reserve(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    path: PathBuf,
    is_held: AtomicBool,
    is_spent: AtomicBool,
}

impl Reserve {
    /// Held in this folder, if there is room.
    pub fn hold(dir: &Path) -> Self {
        let path = dir.join(RESERVE);
        let held = fill(&path);
        if let Err(error) = &held {
            // What there is of it would only be missed elsewhere.
            let _ = fs::remove_file(&path);
            warn!(%error, "no space can be held in reserve for when the disk is full");
        }
        Self(Arc::new(Inner {
            path,
            is_held: held.is_ok().into(),
            is_spent: false.into(),
        }))
    }

    /// Whether the disk was full, and this is what is written on.
    pub fn is_spent(&self) -> bool {
        self.0.is_spent.load(Ordering::Relaxed)
    }

    /// Gives the space back. Whether there was any.
    fn spend(&self) -> bool {
        let inner = &*self.0;
        if !inner.is_held.swap(false, Ordering::Relaxed) || fs::remove_file(&inner.path).is_err() {
            return false;
        }
        inner.is_spent.store(true, Ordering::Relaxed);
        warn!(
            "the disk is full: the turns under way are written into the space held in reserve; make room, \
             and start the proxy again"
        );
        true
    }
}

/// Whether there is no more space.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Makes the file where it is not whole. Its place is taken once it is written: it need not last.
fn fill(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| found.len() == SIZE) {
        return Ok(());
    }
    let mut block = vec![0; BLOCK];
    getrandom::fill(&mut block).map_err(io::Error::other)?;
    let mut file = private_file().truncate(true).open(path)?;
    for _ in 0..SIZE / BLOCK as u64 {
        file.write_all(&block)?;
    }
    Ok(())
}

/// A file that grows into the reserve once there is no other space.
#[derive(Debug)]
pub struct Spared<F> {
    file: F,
    reserve: Reserve,
}

impl<F> Spared<F> {
    pub fn new(file: F, reserve: Reserve) -> Self {
        Self { file, reserve }
    }

    /// Tries what a full disk refused once more. The same bytes go to the same place, and the database
    /// never learns of the first try. What a sync refuses is never tried again.
    fn spared(&self, act: impl Fn(&F) -> io::Result<()>) -> io::Result<()> {
        match act(&self.file) {
            Err(error) if is_full(&error) && self.reserve.spend() => act(&self.file),
            done => done,
        }
    }
}

impl<F: StorageBackend> StorageBackend for Spared<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(at, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.spared(|file| file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.spared(|file| file.write(at, bytes))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[cfg(test)]
pub mod tests {
    use std::fmt;

    use redb::backends::InMemoryBackend;

    use super::*;

    /// Takes nothing up to such a length, in bytes, for which it is full.
    pub struct Full<F>(pub InMemoryBackend, pub F);

    impl<F> fmt::Debug for Full<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Full")
        }
    }

    impl<F: Fn(u64) -> bool> Full<F> {
        fn check(&self, length: u64) -> io::Result<()> {
            match self.1(length) {
                true => Err(ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl<F: Fn(u64) -> bool + Send + Sync + 'static> StorageBackend for Full<F> {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(at, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check(len)?;
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check(0)
        }

        fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
            self.check(at + bytes.len() as u64)?;
            self.0.write(at, bytes)
        }
    }

    #[test]
    fn a_full_disk_gets_the_reserve_once_and_a_failed_sync_never() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(RESERVE);
        let reserve = Reserve::hold(home.path());
        let held = path.clone();
        let full = Full(InMemoryBackend::new(), move |_| held.exists());
        let file = Spared::new(full, reserve.clone());
        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);

        assert!(file.sync_data().is_err());
        assert!(path.exists() && !reserve.is_spent());
        file.set_len(10).unwrap();
        file.write(0, b"under way").unwrap();
        assert!(reserve.is_spent());

        fs::write(&path, "others fill the disk").unwrap();
        assert!(file.write(0, b"too much").is_err());
    }

    #[test]
    fn what_is_left_of_a_reserve_is_made_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(RESERVE);
        fs::write(&path, "half of it").unwrap();

        let reserve = Reserve::hold(home.path());

        assert_eq!(fs::metadata(&path).unwrap().len(), SIZE);
        assert!(!reserve.is_spent());
    }
}
