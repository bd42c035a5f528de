//! A disk in memory that remembers what was done to it, loses what was not synced, and fails when told to.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use super::Random;

pub const SECTOR: usize = 512;

/// Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Medium(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    log: Vec<Event>,
    fault: Option<Box<dyn Planned>>,
}

/// What was done, in its order.
#[derive(Clone, Debug)]
pub enum Event {
    Write(usize, Vec<u8>),
    SetLen(usize),
    Sync,
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
    pub fn of(bytes: Vec<u8>) -> Self {
        let medium = Self::default();
        medium.0.lock().unwrap().bytes = bytes;
        medium
    }

    pub fn failing(bytes: Vec<u8>, fault: impl Planned + 'static) -> Self {
        let medium = Self::of(bytes);
        medium.0.lock().unwrap().fault = Some(Box::new(fault));
        medium
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
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

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.call(Call::Read, |inner| Ok(inner.bytes.len() as u64))
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        self.call(Call::Read, |inner| {
            let part = inner.bytes.get(at..at + out.len());
            out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        self.call(Call::SetLen, |inner| {
            inner.bytes.resize(len, 0);
            inner.log.push(Event::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(Call::Sync, |inner| {
            inner.log.push(Event::Sync);
            Ok(())
        })
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(at).unwrap();
        self.call(Call::Write, |inner| {
            inner.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            inner.log.push(Event::Write(at, bytes.to_vec()));
            Ok(())
        })
    }
}

/// What a disk may hold after the power failed at the end of `log`: what was synced, and of the rest
/// any sector in any of the states that it had, or torn between two of them, or empty.
pub fn after_power_cut(first: &[u8], log: &[Event], random: &mut Random) -> Vec<u8> {
    let synced = log.iter().rposition(|event| matches!(event, Event::Sync));
    let (safe, lost) = log.split_at(synced.map_or(0, |at| at + 1));
    let mut bytes = first.to_vec();
    for event in safe {
        redo(&mut bytes, event);
    }
    let kind = random.below(4);
    let mut volatile = bytes.clone();
    for event in lost {
        match event {
            Event::SetLen(len) if random.one_in(2) => bytes.resize(*len, 0),
            Event::Write(at, new) => {
                let mut at = *at;
                for part in new.chunks(SECTOR) {
                    // What is written begins at the beginning of a sector.
                    assert_eq!(at % SECTOR, 0);
                    let before = &volatile[at..at + part.len()];
                    if let Some(place) = bytes.get_mut(at..at + part.len()) {
                        settle(place, (before, part), (at, kind), random);
                    }
                    at += part.len();
                }
            }
            _ => {}
        }
        redo(&mut volatile, event);
    }
    bytes
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

fn redo(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write(at, new) => bytes[*at..at + new.len()].copy_from_slice(new),
        Event::SetLen(len) => bytes.resize(*len, 0),
        Event::Sync | Event::Acknowledged(_) | Event::Queued(_) => {}
    }
}
