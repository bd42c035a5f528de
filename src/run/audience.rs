//! One run, as its callers see it, and what is remembered of it for those who ask again.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ask::{Ask, RequestKey};
use super::callers::{Callers, May, Remembered};
use super::mend::Wanted;
use super::outlive::{phase, remembered};
use super::progress::Progress;
use super::watched::Watched;
use super::{Answer, Error, Place};
use crate::conversation::{Decision, Turn};
use crate::ids::{Digest, Handle, ResponseId, Tenant};
use crate::store::record::{self, Cut, Kept, Phase, Point, Times, TurnId};
use crate::store::{Branch, Slot, Store};

/// One run. Its record outlives the process from the moment its message is meant to be posted.
#[derive(Debug)]
pub struct Run {
    pub id: TurnId,
    pub tenant: Tenant,
    pub request: RequestKey,
    pub keyed: Option<RequestKey>,
    /// Its answer can be asked for by this.
    pub response: Option<ResponseId>,
    store: Arc<Store>,
    pub progress: Watched,
    callers: Mutex<Callers>,
}

/// How a caller's place at a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Without its answer, or told that it has not come yet.
    Left,
    /// With the last byte of the answer or of its error.
    Written,
}

/// What is at hand of a run for one who asks for it by its id.
#[derive(Debug)]
pub enum Rest {
    /// It is under way, or has ended.
    Awake,
    /// Its answer is to be read from its thread.
    Answered(Box<record::Turn>),
    /// Only the request itself could have it carried on.
    Interrupted(Phase),
}

impl Run {
    pub fn new(ask: Ask, place: Place, kept: Option<Kept>, store: Arc<Store>) -> Arc<Self> {
        let response = kept.as_ref().map(|kept| kept.id);
        let callers = Callers {
            live: 1,
            readers: 0,
            kept: kept.map(Box::new),
            times: Times {
                began: store.now(),
                ..Times::default()
            },
            record: Remembered::Nothing,
            asleep: false,
            wanted: None,
        };
        Arc::new(Self {
            id: store.new_turn(),
            tenant: ask.tenant,
            request: ask.request,
            keyed: ask.keyed,
            response,
            store,
            progress: Watched::new(Progress::at(place)),
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
            conversation: Handle(turn.conversation.as_str().into()),
            decision: Decision::Attached,
            is_replay: false,
        };
        let mut progress = Progress::at(place);
        let kept = turn.kept.clone();
        progress.withdrawn = kept.as_ref().is_some_and(|kept| kept.cancelled);
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
        let (tenant, request, keyed) = (turn.tenant, turn.request, turn.keyed);
        Arc::new(Self {
            id,
            tenant,
            request,
            keyed,
            response: kept.as_ref().map(|kept| kept.id),
            store,
            progress: Watched::new(progress),
            callers: Mutex::new(Callers {
                live: 0,
                readers: 0,
                times,
                kept,
                record: Remembered::packed(turn),
                asleep,
                wanted: None,
            }),
        })
    }

    /// By what name and by which decision its conversation was found.
    pub fn place(&self) -> Place {
        self.progress.look(|progress| progress.place.clone())
    }

    /// Tells every listener of a change.
    pub fn report(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.change(change);
    }

    /// Remembers that a message is about to be posted.
    pub fn intend(&self, turn: record::Turn) {
        let mut callers = self.callers();
        callers.record = Remembered::Loose(Box::new(turn));
        self.write(&mut callers);
    }

    /// Changes what is remembered, if anything is.
    pub fn note(&self, change: impl FnOnce(&mut record::Turn)) {
        let mut callers = self.callers();
        if let Some(turn) = callers.record.loosened() {
            change(turn);
        }
        self.write(&mut callers);
    }

    /// Remembers that nothing is under way any more, until a caller asks again.
    pub fn rest(&self, phase: Phase) {
        let now = self.store.now();
        let mut callers = self.callers();
        callers.times.ended.get_or_insert(now);
        if let Some(turn) = callers.record.loosened() {
            turn.phase = phase;
        }
        self.write(&mut callers);
    }

    /// As [`Run::note`], with a change of the branch: the one is not remembered without the other.
    pub fn note_with(
        &self,
        slot: &Slot,
        change: impl FnOnce(&mut record::Turn),
        branch: impl FnOnce(&mut Branch),
    ) {
        let mut callers = self.callers();
        let turn = callers.changed(change);
        let turn = turn.as_deref().map(|turn| (self.id, turn));
        self.store.change_with(slot, turn, branch);
    }

    /// As [`Run::note_with`], where the branch's tip moves: with that the run is over.
    pub fn advance(
        &self,
        slot: &Slot,
        change: impl FnOnce(&mut record::Turn),
        branch: impl FnOnce(&mut Branch),
    ) {
        let now = self.store.now();
        let mut callers = self.callers();
        callers.times.ended.get_or_insert(now);
        let turn = callers.changed(change);
        let turn = turn.as_deref().map(|turn| (self.id, turn));
        self.store.advance(slot, turn, branch);
    }

    /// What is remembered.
    pub fn record(&self) -> Option<record::Turn> {
        self.callers().whole().map(Cow::into_owned)
    }

    /// Whether anything is remembered.
    pub fn is_remembered(&self) -> bool {
        self.callers().record.is_some()
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
        if phase.is_some() && callers.record.phase() == phase && callers.times.ended.is_some() {
            // Whoever has set that had it written, with its branch.
            return callers.pack();
        }
        callers.times.ended.get_or_insert(now);
        match (phase, callers.record.loosened()) {
            (Some(phase), Some(turn)) => turn.phase = phase,
            // The message is posted, and its run goes on: whoever has a key that is taken may know.
            (None, Some(turn)) if turn.phase == Phase::Accepted && refused => {}
            (None, Some(_)) => {
                callers.record = Remembered::Nothing;
                self.store.forget_turn(self.id);
            }
            (_, None) => {}
        }
        self.write(&mut callers);
    }

    /// Tells the end. The first one counts.
    pub fn end(&self, end: Result<Arc<Answer>, Error>) {
        let now = self.store.now();
        self.callers().times.ended.get_or_insert(now);
        self.report(|progress| progress.end(end));
    }

    pub fn has_ended(&self) -> bool {
        self.progress.look(|progress| progress.ended.is_some())
    }

    /// Whether anybody waits for the answer.
    pub fn is_heard(&self) -> bool {
        let callers = self.callers();
        callers.live + callers.readers > 0
    }

    /// Has ended, and nobody is being told.
    pub fn is_idle(&self) -> bool {
        self.callers().is_idle()
    }

    /// Its answer has reached a caller, and nobody else is being told.
    pub fn is_delivered(&self) -> bool {
        let callers = self.callers();
        callers.is_idle() && callers.times.written.is_some()
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
        self.write(&mut callers);
        drop(callers);
        if leaving == Leaving::Written {
            self.let_go();
        }
    }

    /// Takes a place at this run that is no request's.
    pub fn read(&self) {
        self.callers().readers += 1;
    }

    /// Whoever asked by the id goes. An answer that has reached it is not owed to anybody any more.
    pub fn stop_reading(&self, leaving: Leaving) {
        let now = self.store.now();
        let delivered = leaving == Leaving::Written && self.error().is_none();
        let mut callers = self.callers();
        callers.readers = callers.readers.saturating_sub(1);
        if delivered && callers.times.ended.is_some() && callers.times.written.is_none() {
            callers.times.written = Some(now);
            self.write(&mut callers);
        }
        callers.pack();
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
        callers.whole().map(Cow::into_owned)
    }

    /// As [`Run::wake`], for one who can have an answer read, but no turn carried out.
    pub fn wake_to_read(&self, may: impl Fn(&record::Turn) -> bool) -> Rest {
        let mut callers = self.callers();
        let turn = if callers.asleep {
            callers.whole()
        } else {
            None
        };
        match turn.map(Cow::into_owned) {
            None => Rest::Awake,
            Some(turn) if may(&turn) => {
                callers.asleep = false;
                callers.times.ended = None;
                Rest::Answered(Box::new(turn))
            }
            Some(turn) => Rest::Interrupted(turn.phase),
        }
    }

    /// The same without its answer, which is found in its thread. `None` where there is no answer, or
    /// it is nowhere else.
    pub fn at_rest(&self) -> Option<Arc<Self>> {
        let is_answered = |progress: &Progress| matches!(progress.ended, Some(Ok(_)));
        let answered = self.progress.look(is_answered);
        let turn = answered.then(|| self.release())??;
        Some(Self::restored(self.id, turn, self.store.clone()))
    }

    /// One of which nothing is remembered, and that tells what it is made to.
    pub fn likeness(&self) -> Arc<Self> {
        let ask = Ask {
            tenant: self.tenant,
            request: self.request,
            keyed: None,
        };
        Self::new(ask, self.place(), self.kept(), self.store.clone())
    }

    /// What is remembered of it as a response.
    pub fn kept(&self) -> Option<Kept> {
        self.callers().kept.as_deref().cloned()
    }

    /// Nobody can ask for it by its id any more.
    pub fn unkeep(&self) {
        let mut callers = self.callers();
        callers.kept = None;
        self.write(&mut callers);
    }

    /// Whoever follows on it begins here. Written down with the end.
    pub fn reach(&self, point: &Point) {
        if let Some(kept) = &mut self.callers().kept {
            kept.point = Some(point.clone());
        }
    }

    /// Nobody wants the answer any more. A run that has ended is left as it is.
    pub fn withdraw(&self) {
        if self.has_ended() {
            return;
        }
        let mut callers = self.callers();
        if let Some(kept) = &mut callers.kept {
            kept.cancelled = true;
        }
        self.write(&mut callers);
        drop(callers);
        self.report(|progress| progress.withdrawn = true);
    }

    pub fn is_withdrawn(&self) -> bool {
        self.progress.look(|progress| progress.withdrawn)
    }

    /// Lets a restored turn that ended in doubt be carried on by the next who asks.
    pub fn doze(&self) {
        self.report(|progress| progress.ended = None);
        self.callers().asleep = true;
    }

    /// How a caller that attached wants the answer.
    pub fn wants(&self, turn: &Turn) {
        let mut callers = self.callers();
        if callers.wanted.is_none() && callers.record.cut() == Some(Cut::Unsaid) {
            callers.wanted = Some(Box::new(Wanted::by(turn)));
        }
    }

    /// How the answer is wanted, as far as anybody has said.
    pub fn wanted(&self) -> Option<Wanted> {
        let callers = self.callers();
        match callers.record.cut()? {
            Cut::At(max_tokens) => Some(Wanted::text(max_tokens)),
            Cut::Unsaid => callers.wanted.as_deref().cloned(),
        }
    }

    /// Leaves what is remembered to another.
    pub fn release(&self) -> Option<record::Turn> {
        let mut callers = self.callers();
        let turn = callers.whole().map(Cow::into_owned);
        callers.record = Remembered::Nothing;
        turn
    }

    /// Nothing is remembered from here on, but for what another process can bring to its end.
    pub fn forget(&self) {
        let record = std::mem::take(&mut self.callers().record);
        if record.is_open() == Some(false) {
            self.store.forget_turn(self.id);
        }
    }

    pub fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what is remembered written, and packs it if it can be. Called with the callers held, so that
    /// writes come in the changes' order.
    fn write(&self, callers: &mut Callers) {
        if self.store.keeps()
            && let Some(turn) = callers.whole()
        {
            self.store.write_turn(self.id, &turn);
        }
        callers.pack();
    }

    fn error(&self) -> Option<Error> {
        self.progress.look(Progress::error)
    }
}
