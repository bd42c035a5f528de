//! A disk in memory that remembers what was done to it, loses what was not synced, and fails when told to.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::Random;

pub const SECTOR: usize = 512;

/// How long the journal is there, in bytes: a few entries fill it.
pub const JOURNAL: u64 = 32 << 10;

/// A state's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Database,
    Journal,
}

/// What is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub database: Vec<u8>,
    pub journal: Vec<u8>,
}

impl Image {
    pub fn of(&self, file: File) -> &Vec<u8> {
        match file {
            File::Database => &self.database,
            File::Journal => &self.journal,
        }
    }

    pub fn of_mut(&mut self, file: File) -> &mut Vec<u8> {
        match file {
            File::Database => &mut self.database,
            File::Journal => &mut self.journal,
        }
    }
}

/// A state that was closed.
impl From<Vec<u8>> for Image {
    fn from(database: Vec<u8>) -> Self {
        Self {
            database,
            ..Self::default()
        }
    }
}

/// Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Medium(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    image: Image,
    log: Vec<Event>,
    fault: Option<Box<dyn Planned>>,
}

/// One of its files.
#[derive(Debug)]
pub struct Part(Medium, File);

/// What was done, in its order.
#[derive(Clone, Debug)]
pub enum Event {
    Write(File, usize, Vec<u8>),
    SetLen(File, usize),
    Sync(File),
    /// So many units of the caller's were acknowledged by now.
    Acknowledged(usize),
    /// So many units of the caller's were queued by now.
    Queued(usize),
}

/// What may be asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
    SetLen,
    Sync,
}

/// Decides which calls fail, and how.
pub trait Planned: Send + std::fmt::Debug {
    fn fails(&mut self, call: Call) -> Option<io::Error>;
}

impl Medium {
    pub fn of(image: impl Into<Image>) -> Self {
        let medium = Self::default();
        medium.0.lock().unwrap().image = image.into();
        medium
    }

    pub fn failing(image: Image, fault: impl Planned + 'static) -> Self {
        let medium = Self::of(image);
        medium.0.lock().unwrap().fault = Some(Box::new(fault));
        medium
    }

    pub fn file(&self, file: File) -> Part {
        Part(self.clone(), file)
    }

    pub fn image(&self) -> Image {
        self.0.lock().unwrap().image.clone()
    }

    pub fn log(&self) -> Vec<Event> {
        self.0.lock().unwrap().log.clone()
    }

    pub fn note(&self, event: Event) {
        self.0.lock().unwrap().log.push(event);
    }

    fn call<T>(&self, call: Call, act: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.0.lock().unwrap();
        match inner.fault.as_mut().and_then(|fault| fault.fails(call)) {
            Some(error) => Err(error),
            None => act(&mut inner),
        }
    }
}

impl StorageBackend for Part {
    fn len(&self) -> io::Result<u64> {
        let Self(medium, file) = self;
        medium.call(Call::Read, |inner| Ok(inner.image.of(*file).len() as u64))
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let Self(medium, file) = self;
        let at = usize::try_from(at).unwrap();
        medium.call(Call::Read, |inner| {
            let part = inner.image.of(*file).get(at..at + out.len());
            out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.done(Call::SetLen, Event::SetLen(self.1, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.done(Call::Sync, Event::Sync(self.1))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        self.done(Call::Write, Event::Write(self.1, at, bytes.to_vec()))
    }
}

impl Part {
    fn done(&self, call: Call, event: Event) -> io::Result<()> {
        self.0.call(call, |inner| {
            redo(&mut inner.image, &event);
            inner.log.push(event);
            Ok(())
        })
    }
}

/// What a disk may hold after the power failed at the end of `log`: of each file what was synced, and of the rest
/// any sector in any of the states that it had, or torn between two of them, or empty.
pub fn after_power_cut(first: &Image, log: &[Event], random: &mut Random) -> Image {
    let mut image = first.clone();
    for file in [File::Database, File::Journal] {
        let is_sync = |event: &Event| matches!(event, Event::Sync(synced) if *synced == file);
        let (safe, lost) = log.split_at(log.iter().rposition(is_sync).map_or(0, |at| at + 1));
        for event in safe.iter().filter(|event| event.file() == Some(file)) {
            redo(&mut image, event);
        }
        let lost = lost.iter().filter(|event| event.file() == Some(file));
        lose(&mut image, lost, random);
    }
    image
}

/// What was done to one file, and perhaps not to the disk.
fn lose<'a>(image: &mut Image, lost: impl Iterator<Item = &'a Event>, random: &mut Random) {
    let kind = random.below(4);
    let mut volatile = image.clone();
    for event in lost {
        match event {
            Event::SetLen(file, len) if random.one_in(2) => image.of_mut(*file).resize(*len, 0),
            Event::Write(file, at, new) => {
                let mut at = *at;
                for part in new.chunks(SECTOR) {
                    // What is written begins at the beginning of a sector.
                    assert_eq!(at % SECTOR, 0);
                    let before = &volatile.of(*file)[at..at + part.len()];
                    if let Some(place) = image.of_mut(*file).get_mut(at..at + part.len()) {
                        settle(place, (before, part), (at, kind), random);
                    }
                    at += part.len();
                }
            }
            _ => {}
        }
        redo(&mut volatile, event);
    }
}

/// Puts a sector into one of the states that it may be in.
fn settle(
    place: &mut [u8],
    (before, after): (&[u8], &[u8]),
    (at, kind): (usize, usize),
    random: &mut Random,
) {
    match kind {
        // All of it arrived, or none of it.
        0 => place.copy_from_slice(after),
        1 => {}
        // Each sector for itself, perhaps torn.
        _ => match random.below(8) {
            0..3 => place.copy_from_slice(after),
            3..5 => {}
            5 | 6 => {
                let torn = random.below(after.len());
                place[..torn].copy_from_slice(&after[..torn]);
                place[torn..].copy_from_slice(&before[torn..]);
            }
            // A disk does not lose a sector that it held; the first is never new.
            _ if at > 0 => place.fill(0),
            _ => {}
        },
    }
}

fn redo(image: &mut Image, event: &Event) {
    match event {
        Event::Write(file, at, new) => {
            image.of_mut(*file)[*at..at + new.len()].copy_from_slice(new);
        }
        Event::SetLen(file, len) => image.of_mut(*file).resize(*len, 0),
        Event::Sync(_) | Event::Acknowledged(_) | Event::Queued(_) => {}
    }
}

impl Event {
    fn file(&self) -> Option<File> {
        match self {
            Self::Write(file, ..) | Self::SetLen(file, _) | Self::Sync(file) => Some(*file),
            Self::Acknowledged(_) | Self::Queued(_) => None,
        }
    }
}
