//! How records are written down: ids, keyed hashes and times.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::conversations::Made;
use super::{Branch, BranchId, HandleHash, HandleKey, HandleRecord, Passed, Seen, State};
use crate::clock::Moment;
use crate::form;
use crate::ids::{Digest, Fingerprint, Handle, Mark, ResponseId, Short, Tenant};
use crate::upstream::ThreadId;

/// A record that cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record cannot be read")]
pub struct Unreadable;

/// A turn's own id, unique in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TurnId(pub u64);

/// What is remembered of one turn, so that its message is posted once and its answer found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    pub tenant: Tenant,
    /// A keyed hash of everything that makes a request the same request.
    pub request: [u8; 32],
    /// The keyed hash of its `Idempotency-Key`.
    pub keyed: Option<[u8; 32]>,
    /// What its caller was told that the conversation is called.
    pub conversation: String,
    /// Of the thread that it is posted on.
    pub branch: u64,
    /// `None` while a new thread has no name yet.
    pub thread: Option<String>,
    /// Of the text that was posted.
    pub posted: Mark,
    /// What the thread ended with before.
    pub seen: Seen,
    /// The branch's tip before the turn, and with the prompt.
    pub before: Fingerprint,
    pub prompted: Fingerprint,
    /// The prompt's last messages, for the branch's window.
    pub window: Vec<Short>,
    pub cut: Cut,
    pub phase: Phase,
    pub times: Times,
    /// Its answer can be asked for again by an id.
    pub kept: Option<Box<Kept>>,
}

/// What is remembered of a turn whose answer can be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub id: ResponseId,
    /// The response that it followed on.
    pub previous: Option<ResponseId>,
    /// Whether its request named the conversation.
    pub named: bool,
    pub background: bool,
    /// Its caller wants no answer any more. The run goes on: the upstream knows no cancelling.
    pub cancelled: bool,
    /// Seconds since the epoch.
    pub created: u64,
    /// The name of the model that its caller asked for.
    pub model: String,
    pub form: form::Kind,
    /// Where its conversation stood once it was answered; those who follow on it begin there.
    pub point: Option<Point>,
}

/// A point of a thread: what its caller knows of the conversation there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub tip: Fingerprint,
    /// What the thread ended with.
    pub seen: Seen,
}

/// How the caller wants its answer cut. Stop sequences are text, and are not written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    At(Option<u64>),
    /// Only the request itself says where.
    Unsaid,
}

/// How far a turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its message may be posted, or may be posted yet.
    Intended,
    /// The upstream has the message.
    Accepted,
    /// The thread holds the answer, which has this digest before it is cut.
    Answered(Digest),
    /// The message is nowhere, or where nobody finds it: the turn can be carried out again.
    Lost,
    /// It may be that the message was posted, and nobody will know.
    Unknown,
    Failed,
    Cancelled,
    Expired,
    /// The upstream answered with nonsense after it took the message.
    Garbled,
    /// A fault of ours.
    Broken,
    /// The thread holds an answer that is not what was asked for.
    Unformed,
}

/// When what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    pub began: Moment,
    pub ended: Option<Moment>,
    /// When a caller last left without its answer.
    pub left: Option<Moment>,
    /// When the answer was last written out to the last byte.
    pub written: Option<Moment>,
    /// When the error was first and last told.
    pub told: Option<(Moment, Moment)>,
}

impl Phase {
    /// Whether the turn is still to be brought to its end.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Accepted)
    }
}

#[derive(Serialize, Deserialize)]
struct BranchLine<'a> {
    tenant: Tenant,
    used: Moment,
    #[serde(borrow)]
    handles: Vec<&'a str>,
    narrow: Option<&'a str>,
    thread: &'a str,
    tip: Fingerprint,
    window: VecDeque<Short>,
    instructions: Digest,
    open: bool,
    seen: Option<Seen>,
    passed: VecDeque<Fingerprint>,
    origin: Option<u64>,
    form: Option<Digest>,
}

/// What is written with every change of it. `None` for a branch that has no thread: there is nothing to
/// remember of it.
pub fn branch(branch: &Branch, used: Moment) -> Option<Vec<u8>> {
    line(branch, used, branch.passed.with_branch())
}

/// All earlier tips, as they are written beside their branch.
pub fn passed(points: &VecDeque<Fingerprint>) -> Vec<u8> {
    bytes(points)
}

pub fn read_passed(
    key: &[u8],
    value: &[u8],
) -> Result<(BranchId, VecDeque<Fingerprint>), Unreadable> {
    Ok((BranchId(number(key)?), value_of(value)?))
}

fn line(branch: &Branch, used: Moment, passed: VecDeque<Fingerprint>) -> Option<Vec<u8>> {
    let thread = branch.thread.as_ref()?;
    Some(bytes(&BranchLine {
        tenant: branch.tenant,
        used,
        handles: branch.handles.iter().map(|handle| &*handle.0).collect(),
        narrow: branch.narrow.as_deref(),
        thread: &thread.0,
        tip: branch.tip,
        window: branch.window.clone(),
        instructions: branch.instructions,
        open: branch.state == State::Open,
        seen: branch.seen.clone(),
        passed,
        origin: branch.origin.map(|origin| origin.0),
        form: branch.form,
    }))
}

pub fn read_branch(key: &[u8], value: &[u8]) -> Result<(BranchId, Branch, Moment), Unreadable> {
    let line: BranchLine<'_> = value_of(value)?;
    let used = line.used;
    let fresh = line.with_it();
    Ok((BranchId(number(key)?), line.into_branch(fresh), used))
}

/// A branch as small as it can be: as it is written down, with all of its earlier tips.
#[derive(Clone, Debug)]
pub struct Line {
    bytes: Box<[u8]>,
    /// How many of those are written with it.
    fresh: u16,
}

/// A turn as small as it can be: as it is written down, and whether it is open, for which it need not be read.
#[derive(Clone, Debug)]
pub struct TurnLine {
    bytes: Box<[u8]>,
    pub is_open: bool,
}

impl TurnLine {
    pub fn of(turn: &Turn) -> Self {
        Self {
            bytes: self::turn(turn).into(),
            is_open: turn.phase.is_open(),
        }
    }

    pub fn turn(&self) -> Turn {
        value_of(&self.bytes).expect("it was made of one")
    }
}

/// A branch that an earlier process has left, and what is asked of each.
#[derive(Clone, Debug)]
pub struct Rested {
    pub id: BranchId,
    pub used: Moment,
    pub tip: Fingerprint,
    pub passed: Passed,
    pub line: Line,
}

impl Line {
    /// `None` for a branch that has no thread.
    pub fn of(branch: &Branch, used: Moment) -> Option<Self> {
        let (all, fresh) = branch.passed.at_rest();
        let bytes = line(branch, used, all.clone())?.into();
        Some(Self { bytes, fresh })
    }

    pub fn branch(&self, doubted: bool) -> Branch {
        let line: BranchLine<'_> = value_of(&self.bytes).expect("it was made of one, or read once");
        Branch {
            doubted,
            ..line.into_branch(self.fresh)
        }
    }
}

impl Rested {
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, Unreadable> {
        let line: BranchLine<'_> = value_of(value)?;
        let fresh = line.with_it();
        Ok(Self {
            id: BranchId(number(key)?),
            used: line.used,
            tip: line.tip,
            passed: Passed::resting(line.passed, fresh),
            line: Line {
                bytes: value.into(),
                fresh,
            },
        })
    }

    /// With the earlier tips that were written beside it.
    pub fn with_older(self, older: VecDeque<Fingerprint>) -> Self {
        let branch = Branch {
            passed: self.passed.behind(older),
            ..self.line.branch(true)
        };
        Self {
            line: Line::of(&branch, self.used).expect("one that was written has a thread"),
            passed: branch.passed,
            ..self
        }
    }
}

impl BranchLine<'_> {
    /// How many earlier tips are written with it, where it is as the file has it.
    fn with_it(&self) -> u16 {
        u16::try_from(self.passed.len()).unwrap_or(u16::MAX)
    }

    fn into_branch(self, fresh: u16) -> Branch {
        Branch {
            tenant: self.tenant,
            handles: self.handles.into_iter().map(handle).collect(),
            narrow: self.narrow.map(str::to_owned),
            thread: Some(ThreadId(self.thread.into())),
            tip: self.tip,
            window: self.window,
            instructions: self.instructions,
            state: if self.open {
                State::Open
            } else {
                State::Closed
            },
            seen: self.seen,
            passed: Passed::resting(self.passed, fresh),
            doubted: true,
            beside: None,
            origin: self.origin.map(BranchId),
            form: self.form,
        }
    }
}

/// The key of a record that is known by a number, in the numbers' order.
pub fn numbered(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// Led by when the name was first used, which stays: those of new conversations lie side by side, where
/// by their hashes alone each would be written into a page of its own.
pub fn handle_key(hash: HandleHash, created: u64) -> Vec<u8> {
    [created.to_be_bytes().as_slice(), &hash.0].concat()
}

pub fn handle_value(record: HandleRecord) -> Vec<u8> {
    bytes(&(record.branch.0, record.delta))
}

pub fn read_handle(key: &[u8], value: &[u8]) -> Result<(HandleHash, HandleRecord), Unreadable> {
    let (created, hash) = key.split_first_chunk().ok_or(Unreadable)?;
    let hash = HandleHash(hash.try_into().map_err(|_| Unreadable)?);
    let (branch, delta) = value_of(value)?;
    let record = HandleRecord {
        branch: BranchId(branch),
        delta,
        created: u64::from_be_bytes(*created),
    };
    Ok((hash, record))
}

pub fn conversation_key((tenant, handle): &HandleKey) -> Vec<u8> {
    [tenant.0.as_slice(), handle.0.as_bytes()].concat()
}

pub fn conversation_value(made: Made) -> Vec<u8> {
    bytes(&(made.created, made.at))
}

pub fn read_conversation(key: &[u8], value: &[u8]) -> Result<(HandleKey, Made), Unreadable> {
    let (created, at) = value_of(value)?;
    Ok((read_conversation_key(key)?, Made { created, at }))
}

pub fn read_conversation_key(key: &[u8]) -> Result<HandleKey, Unreadable> {
    let (tenant, name) = key.split_first_chunk().ok_or(Unreadable)?;
    let name = str::from_utf8(name).map_err(|_| Unreadable)?;
    Ok((Tenant(*tenant), handle(name)))
}

pub fn turn(turn: &Turn) -> Vec<u8> {
    bytes(turn)
}

pub fn read_turn(key: &[u8], value: &[u8]) -> Result<(TurnId, Turn), Unreadable> {
    Ok((TurnId(number(key)?), value_of(value)?))
}

fn handle(name: &str) -> Handle {
    Handle(Arc::from(name))
}

/// As long as they are: many are kept.
pub fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Those of conversations that are not long yet are shorter, and need not be moved as they grow.
    let mut room = [0; 1024];
    if let Ok(bytes) = postcard::to_slice(value, &mut room) {
        return bytes.to_vec();
    }
    let bytes = postcard::to_allocvec(value);
    let mut bytes = bytes.expect("a record in memory can be written down");
    bytes.shrink_to_fit();
    bytes
}

/// The whole of the bytes, and no more than they hold.
pub fn value_of<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

fn number(key: &[u8]) -> Result<u64, Unreadable> {
    let bytes = key.try_into().map_err(|_| Unreadable)?;
    let number = u64::from_be_bytes(bytes);
    // The next one is counted on from here.
    (number < u64::MAX).then_some(number).ok_or(Unreadable)
}
