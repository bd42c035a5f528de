//! One caller's place at a run: what it is told, and whether it has reached it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::audience::{Leaving, Run};
use super::live::outcome;
use super::progress::Progress;
use super::watched::Version;
use super::{Answer, Error, Place, RunEvent};
use crate::conversation::Decision;
use crate::metrics::{self, Metrics};
use crate::store::record::Kept;

/// Whose place at a run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Of the request that the run is carried out for.
    Own,
    /// Of a request that repeats it.
    Attached,
    /// Of a request that repeats it in a later process than the one that it had ended in.
    Recalled,
    /// Of one who asks for the response by its id.
    Reader,
}

/// One caller's place at a run. Dropped before [`Subscription::delivered`], it is a hang-up.
#[derive(Debug)]
pub struct Subscription {
    run: Arc<Run>,
    /// Of the run's progress.
    seen: Version,
    told: Told,
    seat: Seat,
    is_replay: bool,
    deadline: Instant,
    /// How it ended.
    left: Leaving,
    metrics: Arc<Metrics>,
    _waiting: metrics::Waiting,
}

/// What a caller has been told of its run.
#[derive(Debug)]
struct Told {
    accepted: bool,
    /// Of the answer's text.
    sent: String,
    /// How the caller leaves once the last byte is written.
    leaving: Leaving,
}

impl Subscription {
    /// The place must have been taken at the run.
    pub fn new(run: Arc<Run>, deadline: Duration, seat: Seat, metrics: Arc<Metrics>) -> Self {
        let had_ended = match seat {
            Seat::Own | Seat::Reader => false,
            Seat::Attached => run.has_ended(),
            Seat::Recalled => true,
        };
        Self {
            seen: Version::default(),
            is_replay: had_ended && run.keyed.is_some(),
            run,
            told: Told {
                accepted: false,
                sent: String::new(),
                leaving: Leaving::Left,
            },
            seat,
            deadline: Instant::now() + deadline,
            left: Leaving::Left,
            _waiting: metrics.waiting(),
            metrics,
        }
    }

    /// As known by now: a later read may differ (`appended` becomes `replayed`).
    pub fn place(&self) -> Place {
        let place = self.run.place();
        Place {
            decision: match self.seat {
                Seat::Attached | Seat::Reader => Decision::Attached,
                Seat::Own | Seat::Recalled => place.decision,
            },
            is_replay: self.is_replay,
            ..place
        }
    }

    /// Polls of the upstream so far, for the log.
    pub fn polls(&self) -> u32 {
        self.run.progress.look(|progress| progress.polls)
    }

    /// What is remembered of the run as a response, by now. A request that repeats another one gets
    /// the id of that one's.
    pub fn kept(&self) -> Option<Kept> {
        self.run.kept()
    }

    /// Whether the upstream has the message, and that outlives the process.
    pub fn is_accepted(&self) -> bool {
        self.run.progress.look(Progress::is_accepted)
    }

    /// How it ended, if it has by now.
    pub fn ended(&mut self) -> Option<Result<Arc<Answer>, Error>> {
        let progress = &self.run.progress;
        let ended = progress.look_anew(&mut self.seen, Progress::end_told)?;
        self.told.leaving = Leaving::Written;
        Some(ended)
    }

    /// The next event. After `Completed` or `Failed` there is none: do not call again.
    /// The texts before `Completed`, joined, are the answer's. Safe to drop at any time.
    pub async fn next(&mut self) -> RunEvent {
        loop {
            let Self {
                run, seen, told, ..
            } = self;
            if let Some(event) = run.progress.look_anew(seen, |now| told.event(now)) {
                return event;
            }
            let change = self.run.progress.changed(self.seen);
            if timeout_at(self.deadline, change).await.is_err() {
                return RunEvent::Failed(Error::Timeout);
            }
        }
    }

    /// Waits for the end. Safe to drop at any time.
    pub async fn answer(&mut self) -> Result<Arc<Answer>, Error> {
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            let ending = self.run.progress.over();
            let in_time = timeout_at(self.deadline, ending).await;
            in_time.map_err(|_| Error::Timeout)?;
        }
    }

    /// The last byte was accepted by the caller's socket: this answer is not owed any more.
    pub fn delivered(mut self) {
        self.left = self.told.leaving;
    }

    /// The caller knows by which id to ask for the answer: the same request again is another one.
    pub fn acknowledged(mut self) {
        self.left = Leaving::Written;
    }
}

impl Told {
    /// What there is to be told next.
    fn event(&mut self, progress: &Progress) -> Option<RunEvent> {
        // An end without an answer comes first: a stream that has not begun need not begin.
        if let Some(error) = progress.error() {
            self.leaving = Leaving::Written;
            return Some(RunEvent::Failed(error));
        }
        // What is shown before that may yet be forgotten by a fall of the process.
        if !self.accepted {
            self.accepted = progress.is_accepted();
            return self.accepted.then_some(RunEvent::Accepted);
        }
        let ended = progress.ended.as_ref().and_then(|end| end.as_ref().ok());
        let text = ended.map_or(&*progress.text, |answer| &answer.text);
        match text.strip_prefix(&*self.sent) {
            Some("") => {}
            Some(growth) => {
                let piece = progress.piece_after(self.sent.len());
                let length = piece.unwrap_or(text.len()) - self.sent.len();
                let piece = growth.get(..length).unwrap_or(growth).to_owned();
                self.sent.push_str(&piece);
                return Some(RunEvent::Text(piece));
            }
            // An unfinished text may be shown shorter for a while; what was sent must come back.
            None if ended.is_none() => return None,
            None => {
                return Some(RunEvent::Failed(Error::Upstream {
                    what: "the text changed after it was sent".to_owned(),
                    posted: true,
                }));
            }
        }
        let answer = ended?.clone();
        self.leaving = Leaving::Written;
        Some(RunEvent::Completed(answer))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        match self.seat {
            Seat::Reader => return self.run.stop_reading(self.left),
            Seat::Own | Seat::Attached | Seat::Recalled => self.run.leave(self.left),
        }
        if self.seat == Seat::Attached {
            self.run.progress.look(|progress| {
                if let Some(ended) = &progress.ended {
                    self.metrics.turn_ended(Decision::Attached, outcome(ended));
                }
            });
        }
    }
}
