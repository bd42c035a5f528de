//! One run, as its callers see it, and what is remembered of it for those who ask again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::mend::Wanted;
use super::{Answer, Error, Place};
use crate::conversation::{Decision, Turn};
use crate::ids::{Digest, Handle, Tenant};
use crate::store::record::{self, Cut, Phase, Times, TurnId};
use crate::store::{Branch, Slot, Store};

/// A keyed hash of everything that makes a request the same request.
pub type RequestKey = [u8; 32];

/// One run. Its record outlives the process from the moment its message is meant to be posted.
#[derive(Debug)]
pub struct Run {
    pub id: TurnId,
    pub tenant: Tenant,
    pub request: RequestKey,
    pub keyed: Option<RequestKey>,
    store: Arc<Store>,
    progress: watch::Sender<Progress>,
    callers: Mutex<Callers>,
}

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct Progress {
    pub place: Place,
    pub accepted: bool,
    /// What may be sent of the answer.
    pub text: Arc<str>,
    pub polls: u32,
    pub ended: Option<Result<Arc<Answer>, Error>>,
}

/// Who listens to a run, and what has reached them.
#[derive(Debug)]
pub struct Callers {
    pub live: usize,
    pub times: Times,
    /// `None` until a message is meant to be posted.
    record: Option<record::Turn>,
    /// Nothing is under way: the first caller that asks again has the turn carried on.
    asleep: bool,
    /// How a caller that asked again wants the answer, where the record does not say.
    wanted: Option<Wanted>,
}

/// How a caller's place at a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Without its answer, or told that it has not come yet.
    Left,
    /// With the last byte of the answer or of its error.
    Written,
}

/// Whether a run, as its callers and its error are, may be attached to.
pub type May<'a> = &'a dyn Fn(&Callers, Option<&Error>) -> bool;

/// What a request is, apart from its conversation.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub tenant: Tenant,
    pub request: RequestKey,
    pub keyed: Option<RequestKey>,
}

impl Run {
    pub fn new(ask: Ask, place: Place, store: Arc<Store>) -> Arc<Self> {
        let callers = Callers {
            live: 1,
            times: Times {
                began: store.now(),
                ..Times::default()
            },
            record: None,
            asleep: false,
            wanted: None,
        };
        Arc::new(Self {
            id: store.new_turn(),
            tenant: ask.tenant,
            request: ask.request,
            keyed: ask.keyed,
            store,
            progress: watch::Sender::new(Progress::at(place)),
            callers: Mutex::new(callers),
        })
    }

    /// One that an earlier process has left. Whoever listened to it then is gone.
    pub fn restored(id: TurnId, turn: record::Turn, store: Arc<Store>) -> Arc<Self> {
        let mut times = turn.times;
        if times.written.is_none() && times.told.is_none() {
            times.left = Some(store.now());
        }
        let place = Place {
            conversation: turn.conversation.clone(),
            decision: Decision::Attached,
            is_replay: false,
        };
        let mut progress = Progress::at(place);
        let asleep = match turn.phase {
            Phase::Intended | Phase::Accepted => false,
            Phase::Answered(_) | Phase::Lost => true,
            Phase::Unknown
            | Phase::Failed
            | Phase::Cancelled
            | Phase::Expired
            | Phase::Garbled
            | Phase::Unformed
            | Phase::Broken => {
                progress.ended = Some(Err(remembered(turn.phase)));
                false
            }
        };
        Arc::new(Self {
            id,
            tenant: turn.tenant,
            request: turn.request,
            keyed: turn.keyed,
            store,
            progress: watch::Sender::new(progress),
            callers: Mutex::new(Callers {
                live: 0,
                times,
                record: Some(turn),
                asleep,
                wanted: None,
            }),
        })
    }

    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells every listener of a change.
    pub fn report(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Remembers that a message is about to be posted.
    pub fn intend(&self, turn: record::Turn) {
        let mut callers = self.callers();
        let times = callers.times;
        callers.record = Some(record::Turn { times, ..turn });
        self.write(&callers);
    }

    /// Changes what is remembered, if anything is.
    pub fn note(&self, change: impl FnOnce(&mut record::Turn)) {
        let mut callers = self.callers();
        if let Some(record) = &mut callers.record {
            change(record);
        }
        self.write(&callers);
    }

    /// Remembers that nothing is under way any more, until a caller asks again.
    pub fn rest(&self, phase: Phase) {
        let now = self.store.now();
        let mut callers = self.callers();
        callers.times.ended.get_or_insert(now);
        if let Some(record) = &mut callers.record {
            record.phase = phase;
        }
        self.write(&callers);
    }

    /// As [`Run::note`], with a change of the branch: the one is not remembered without the other.
    pub fn note_with(
        &self,
        slot: &Slot,
        change: impl FnOnce(&mut record::Turn),
        branch: impl FnOnce(&mut Branch),
    ) {
        let mut callers = self.callers();
        if let Some(record) = &mut callers.record {
            change(record);
        }
        let turn = callers.whole();
        let turn = turn.as_ref().map(|turn| (self.id, turn));
        self.store.change_with(slot, turn, branch);
    }

    /// As [`Run::note_with`], where the branch's tip moves.
    pub fn advance(
        &self,
        slot: &Slot,
        change: impl FnOnce(&mut record::Turn),
        branch: impl FnOnce(&mut Branch),
    ) {
        let mut callers = self.callers();
        if let Some(record) = &mut callers.record {
            change(record);
        }
        let turn = callers.whole();
        let turn = turn.as_ref().map(|turn| (self.id, turn));
        self.store.advance(slot, turn, branch);
    }

    /// What is remembered.
    pub fn record(&self) -> Option<record::Turn> {
        self.callers().whole()
    }

    /// Remembers the end, for those who ask after a restart. `whole` is the answer before it was cut.
    /// A turn that is not posted, and is told so, is forgotten.
    pub fn settle(&self, end: &Result<Arc<Answer>, Error>, whole: Digest) {
        let phase = match end {
            Ok(_) => Some(Phase::Answered(whole)),
            Err(error) => phase(error),
        };
        let refused = matches!(end, Err(Error::KeyRefused(_)));
        let now = self.store.now();
        let mut callers = self.callers();
        callers.times.ended.get_or_insert(now);
        match (phase, &mut callers.record) {
            (Some(phase), Some(record)) => record.phase = phase,
            // The message is posted, and its run goes on: whoever has a key that is taken may know.
            (None, Some(record)) if record.phase == Phase::Accepted && refused => {}
            (None, Some(_)) => {
                callers.record = None;
                self.store.forget_turn(self.id);
            }
            (_, None) => {}
        }
        self.write(&callers);
    }

    /// Tells the end. The first one counts.
    pub fn end(&self, end: Result<Arc<Answer>, Error>) {
        let now = self.store.now();
        self.callers().times.ended.get_or_insert(now);
        self.progress.send_modify(|progress| {
            progress.ended.get_or_insert(end);
            // The answer holds the whole text.
            progress.text = Arc::from("");
        });
    }

    pub fn has_ended(&self) -> bool {
        self.progress.borrow().ended.is_some()
    }

    /// Whether anybody waits for the answer.
    pub fn is_heard(&self) -> bool {
        self.callers().live > 0
    }

    /// Has ended, and nobody is being told.
    pub fn is_idle(&self) -> bool {
        let callers = self.callers();
        callers.times.ended.is_some() && callers.live == 0
    }

    /// Its answer has reached a caller, and nobody else is being told.
    pub fn is_delivered(&self) -> bool {
        let callers = self.callers();
        let times = callers.times;
        callers.live == 0 && times.ended.is_some() && times.written.is_some()
    }

    /// A caller goes.
    pub fn leave(&self, leaving: Leaving) {
        let now = self.store.now();
        let error = self.error();
        let mut callers = self.callers();
        callers.live = callers.live.saturating_sub(1);
        let times = &mut callers.times;
        match (leaving, error) {
            // Told to this process's callers; the turn goes on in the next, or under a key that is taken.
            (Leaving::Left, _)
            | (Leaving::Written, Some(Error::ShuttingDown | Error::KeyRefused(_))) => {
                times.left = Some(now);
            }
            (Leaving::Written, Some(_)) => {
                let first = times.told.map_or(now, |(first, _)| first);
                times.told = Some((first, now));
            }
            (Leaving::Written, None) => times.written = Some(now),
        }
        self.write(&callers);
        drop(callers);
        if leaving == Leaving::Written {
            self.let_go();
        }
    }

    /// A conversation whose thread is lost is begun anew by the request after the one that was told so.
    fn let_go(&self) {
        if let Some(Error::NoConversation(name)) = self.error() {
            let key = (self.tenant, Handle(name.into()));
            self.store.forget_closed(&key);
        }
    }

    /// Takes a place at this run if `may` says so; nobody can come between.
    pub fn attend(&self, may: May<'_>) -> bool {
        let error = self.error();
        let mut callers = self.callers();
        let may = may(&callers, error.as_ref());
        if may {
            callers.live += 1;
        }
        may
    }

    /// Whether there would be a place by now.
    pub fn admits(&self, may: May<'_>) -> bool {
        let error = self.error();
        may(&self.callers(), error.as_ref())
    }

    /// How far the turn had come, told to the first who asks: it is to be carried on.
    pub fn wake(&self) -> Option<record::Turn> {
        let mut callers = self.callers();
        if !std::mem::take(&mut callers.asleep) {
            return None;
        }
        callers.times.ended = None;
        callers.record.clone()
    }

    /// Lets a restored turn that ended in doubt be carried on by the next who asks.
    pub fn doze(&self) {
        self.progress.send_modify(|progress| progress.ended = None);
        self.callers().asleep = true;
    }

    /// How a caller that attached wants the answer.
    pub fn wants(&self, turn: &Turn) {
        let mut callers = self.callers();
        let unsaid = callers
            .record
            .as_ref()
            .is_some_and(|record| record.cut == Cut::Unsaid);
        if unsaid && callers.wanted.is_none() {
            callers.wanted = Some(Wanted::by(turn));
        }
    }

    /// How the answer is wanted, as far as anybody has said.
    pub fn wanted(&self) -> Option<Wanted> {
        let callers = self.callers();
        match callers.record.as_ref()?.cut {
            Cut::At(max_tokens) => Some(Wanted::text(max_tokens)),
            Cut::Unsaid => callers.wanted.clone(),
        }
    }

    /// Leaves what is remembered to another.
    pub fn release(&self) -> Option<record::Turn> {
        let mut callers = self.callers();
        let times = callers.times;
        let turn = callers.record.take()?;
        Some(record::Turn { times, ..turn })
    }

    /// Nothing is remembered from here on, but for what another process can bring to its end.
    pub fn forget(&self) {
        let record = self.callers().record.take();
        if record.is_some_and(|turn| !turn.phase.is_open()) {
            self.store.forget_turn(self.id);
        }
    }

    pub fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called with the callers held, so that writes come in the changes' order.
    fn write(&self, callers: &Callers) {
        if let Some(turn) = callers.whole() {
            self.store.write_turn(self.id, &turn);
        }
    }

    fn error(&self) -> Option<Error> {
        match &self.progress.borrow().ended {
            Some(Err(error)) => Some(error.clone()),
            Some(Ok(_)) | None => None,
        }
    }
}

impl Progress {
    fn at(place: Place) -> Self {
        Self {
            place,
            accepted: false,
            text: Arc::from(""),
            polls: 0,
            ended: None,
        }
    }
}

impl Callers {
    fn whole(&self) -> Option<record::Turn> {
        let times = self.times;
        let turn = self.record.clone()?;
        Some(record::Turn { times, ..turn })
    }

    /// Nobody has been told how it ended, and nobody waits to be.
    pub fn is_owed(&self) -> bool {
        self.live == 0 && self.times.written.is_none() && self.times.told.is_none()
    }
}

/// What of an error outlives the process: none of its words. `None` for errors after which the
/// turn may be sent again as if nothing had been.
fn phase(error: &Error) -> Option<Phase> {
    Some(match error {
        Error::OutcomeUnknown => Phase::Unknown,
        Error::Failed(_) => Phase::Failed,
        Error::Cancelled(_) => Phase::Cancelled,
        Error::Expired => Phase::Expired,
        Error::Upstream { posted: true, .. } => Phase::Garbled,
        Error::Unformed(_) => Phase::Unformed,
        Error::Internal => Phase::Broken,
        Error::Upstream { posted: false, .. }
        | Error::NoConversation(_)
        | Error::NoResponse(_)
        | Error::KeyReused
        | Error::TooManyWaiting
        | Error::TooManyRuns
        | Error::Overloaded
        | Error::Refused(_)
        | Error::KeyRefused(_)
        | Error::RateLimited(_)
        | Error::Unreachable
        | Error::Failing(_)
        | Error::Timeout
        | Error::ShuttingDown
        | Error::StateUnwritable => return None,
    })
}

/// The error that was told before the restart.
fn remembered(phase: Phase) -> Error {
    const WORDS: &str = "its words were not kept over a restart of the proxy";
    match phase {
        Phase::Failed => Error::Failed(WORDS.to_owned()),
        Phase::Cancelled => Error::Cancelled(WORDS.to_owned()),
        Phase::Expired => Error::Expired,
        Phase::Garbled => Error::Upstream {
            what: WORDS.to_owned(),
            posted: true,
        },
        Phase::Unformed => Error::Unformed(WORDS.to_owned()),
        Phase::Broken => Error::Internal,
        Phase::Unknown | Phase::Intended | Phase::Accepted | Phase::Answered(_) | Phase::Lost => {
            Error::OutcomeUnknown
        }
    }
}
