//! A file that is read as if it could be written, and changes by no byte until it is known to be good.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: u64 = 4096;

/// Keeps what is written to a file in memory, until it is let through. Cloning shares it.
#[derive(Debug)]
pub struct Held<F>(Arc<Shared<F>>);

impl<F> Clone for Held<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<F> {
    file: F,
    /// `None` once everything goes straight to the file.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    len: u64,
    /// How much of the file still shows where no page of ours lies above it.
    shows: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
    /// In their order, so that a crash while they are let through leaves what a crash always may.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl<F: StorageBackend> Held<F> {
    pub fn new(file: F) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self(Arc::new(Shared {
            file,
            kept: Mutex::new(Some(Kept {
                len,
                shows: len,
                pages: BTreeMap::new(),
                steps: Vec::new(),
            })),
        })))
    }

    /// Does to the file what was done here, and from then on at once.
    pub fn let_through(&self) -> io::Result<()> {
        let mut kept = self.kept();
        let file = &self.0.file;
        for step in kept.iter().flat_map(|kept| &kept.steps) {
            match step {
                Step::Write(at, bytes) => file.write(*at, bytes)?,
                Step::SetLen(len) => file.set_len(*len)?,
                Step::Sync => file.sync_data()?,
            }
        }
        *kept = None;
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: StorageBackend> StorageBackend for Held<F> {
    fn len(&self) -> io::Result<u64> {
        match &*self.kept() {
            Some(kept) => Ok(kept.len),
            None => self.0.file.len(),
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.kept() {
            Some(kept) => kept.read(&self.0.file, at, out),
            None => self.0.file.read(at, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match &mut *self.kept() {
            Some(kept) => {
                kept.set_len(len);
                Ok(())
            }
            None => self.0.file.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match &mut *self.kept() {
            Some(kept) => {
                kept.steps.push(Step::Sync);
                Ok(())
            }
            None => self.0.file.sync_data(),
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        match &mut *self.kept() {
            Some(kept) => kept.write(&self.0.file, at, bytes),
            None => self.0.file.write(at, bytes),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }
}

impl Kept {
    fn read(&self, file: &impl StorageBackend, at: u64, out: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(out.len() as u64);
        let end = end.filter(|end| *end <= self.len);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let shown = self.shows.clamp(at, end) - at;
        let (below, beyond) = out.split_at_mut(index(shown)?);
        if !below.is_empty() {
            file.read(at, below)?;
        }
        beyond.fill(0);
        for (number, page) in self.pages.range(at / PAGE..=end / PAGE) {
            let start = number * PAGE;
            let (from, to) = (start.max(at), (start + PAGE).min(end));
            let part = page.get(index(from.saturating_sub(start))?..index(to - start)?);
            let place = out.get_mut(index(from - at)?..index(to.saturating_sub(at))?);
            if let (Some(part), Some(place)) = (part, place) {
                place.copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &impl StorageBackend, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at.checked_add(bytes.len() as u64);
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.len = self.len.max(end);
        let mut from = at;
        while from < end {
            let number = from / PAGE;
            let start = number * PAGE;
            let to = (start + PAGE).min(end);
            if !self.pages.contains_key(&number) {
                let mut page = vec![0; index(PAGE)?];
                let there = index((start + PAGE).min(self.len) - start)?;
                if let Some(there) = page.get_mut(..there) {
                    self.read(file, start, there)?;
                }
                self.pages.insert(number, page.into_boxed_slice());
            }
            let place = self.pages.get_mut(&number).and_then(|page| {
                page.get_mut(usize::try_from(from - start).ok()?..usize::try_from(to - start).ok()?)
            });
            let part = bytes.get(index(from - at)?..index(to - at)?);
            if let (Some(place), Some(part)) = (place, part) {
                place.copy_from_slice(part);
            }
            from = to;
        }
        self.steps.push(Step::Write(at, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        self.shows = self.shows.min(len);
        self.pages.split_off(&len.div_ceil(PAGE));
        if let Some(last) = self.pages.get_mut(&(len / PAGE))
            && let Some(cut) = last.get_mut((len % PAGE) as usize..)
        {
            cut.fill(0);
        }
        self.len = len;
        self.steps.push(Step::SetLen(len));
    }
}

fn index(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Write(u64, Vec<u8>),
        SetLen(u64),
        Read(u64, usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let bytes = proptest::collection::vec(any::<u8>(), 1..9000);
        let act = prop_oneof![
            (0..20_000_u64, bytes).prop_map(|(at, bytes)| Act::Write(at, bytes)),
            (0..30_000_u64).prop_map(Act::SetLen),
            (0..30_000_u64, 1..12_000_usize).prop_map(|(at, len)| Act::Read(at, len)),
        ];
        proptest::collection::vec(act, 1..12)
    }

    fn image(file: &impl StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read(0, &mut bytes).unwrap();
        bytes
    }

    /// The same, on plain bytes.
    fn model(bytes: &mut Vec<u8>, act: &Act) -> Option<Vec<u8>> {
        match act {
            Act::Write(at, new) => {
                let at = usize::try_from(*at).unwrap();
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[at..at + new.len()].copy_from_slice(new);
                None
            }
            Act::SetLen(len) => {
                bytes.resize(usize::try_from(*len).unwrap(), 0);
                None
            }
            Act::Read(at, len) => {
                let at = usize::try_from(*at).unwrap();
                bytes.get(at..at + len).map(<[u8]>::to_vec)
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_held_reads_as_if_it_were_written_and_writes_nothing(
            first in proptest::collection::vec(any::<u8>(), 0..20_000),
            acts in acts(),
        ) {
            let file = InMemoryBackend::new();
            file.set_len(first.len() as u64).unwrap();
            file.write(0, &first).unwrap();
            let held = Held::new(file).unwrap();
            let mut expected = first.clone();

            for act in &acts {
                let read = model(&mut expected, act);
                match act {
                    Act::Write(at, bytes) => {
                        // Files grow by `set_len` alone, as the database has it.
                        let end = at + bytes.len() as u64;
                        if held.len().unwrap() < end {
                            held.set_len(end).unwrap();
                        }
                        held.write(*at, bytes).unwrap();
                    }
                    Act::SetLen(len) => held.set_len(*len).unwrap(),
                    Act::Read(at, len) => {
                        let mut out = vec![1; *len];
                        let found = held.read(*at, &mut out).ok().map(|()| out);
                        prop_assert_eq!(found, read);
                    }
                }
                prop_assert_eq!(image(&held), expected.clone());
                prop_assert_eq!(image(&held.0.file), first.clone());
            }
            held.let_through().unwrap();
            prop_assert_eq!(image(&held.0.file), expected);
        }
    }
}
