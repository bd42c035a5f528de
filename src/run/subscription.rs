//! One caller's place at a run: what it is told, and whether it has reached it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::audience::{Leaving, Progress, Run};
use super::live::outcome;
use super::{Answer, Error, Place, RunEvent};
use crate::conversation::Decision;
use crate::metrics::{self, Metrics};

/// One caller's place at a run. Dropped before [`Subscription::delivered`], it is a hang-up.
#[derive(Debug)]
pub struct Subscription {
    run: Arc<Run>,
    progress: watch::Receiver<Progress>,
    /// What this caller has been sent.
    sent: Arc<str>,
    accepted: bool,
    attached: bool,
    is_replay: bool,
    deadline: Instant,
    /// How it ends once the last byte is written.
    leaving: Leaving,
    /// How it ended.
    left: Leaving,
    metrics: Arc<Metrics>,
    _waiting: metrics::Waiting,
}

impl Subscription {
    pub fn new(run: Arc<Run>, deadline: Duration, attached: bool, metrics: Arc<Metrics>) -> Self {
        Self {
            progress: run.watch(),
            is_replay: attached && run.keyed.is_some() && run.has_ended(),
            run,
            sent: Arc::from(""),
            accepted: false,
            attached,
            deadline: Instant::now() + deadline,
            leaving: Leaving::Left,
            left: Leaving::Left,
            _waiting: metrics.waiting(),
            metrics,
        }
    }

    /// The run had ended before, in an earlier process.
    pub fn replaying(mut self) -> Self {
        self.is_replay = self.run.keyed.is_some();
        self
    }

    /// As known by now: a later read may differ (`appended` becomes `replayed`).
    pub fn place(&self) -> Place {
        let place = self.progress.borrow().place.clone();
        Place {
            decision: if self.attached {
                Decision::Attached
            } else {
                place.decision
            },
            is_replay: self.is_replay,
            ..place
        }
    }

    /// Polls of the upstream so far, for the log.
    pub fn polls(&self) -> u32 {
        self.progress.borrow().polls
    }

    /// The next event. After `Completed` or `Failed` there is none: do not call again.
    /// The texts before `Completed`, joined, are the answer's. Safe to drop at any time.
    pub async fn next(&mut self) -> RunEvent {
        loop {
            let progress = self.progress.borrow_and_update().clone();
            if let Some(event) = self.event(progress) {
                return event;
            }
            if let Err(error) = self.changed().await {
                return RunEvent::Failed(error);
            }
        }
    }

    /// Waits for the end. Safe to drop at any time.
    pub async fn answer(&mut self) -> Result<Arc<Answer>, Error> {
        loop {
            let ended = self.progress.borrow_and_update().ended.clone();
            if let Some(ended) = ended {
                self.leaving = Leaving::Written;
                return ended;
            }
            self.changed().await?;
        }
    }

    /// The last byte was accepted by the caller's socket: this answer is not owed any more.
    pub fn delivered(mut self) {
        self.left = self.leaving;
    }

    /// Waits for a change in the run, at most until the caller's deadline.
    async fn changed(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            changed = self.progress.changed() => changed.map_err(|_| Error::Internal),
            () = sleep_until(self.deadline) => Err(Error::Timeout),
        }
    }

    fn event(&mut self, progress: Progress) -> Option<RunEvent> {
        // An end without an answer comes first: a stream that has not begun need not begin.
        if let Some(Err(error)) = &progress.ended {
            self.leaving = Leaving::Written;
            return Some(RunEvent::Failed(error.clone()));
        }
        let ended = progress.ended.and_then(Result::ok);
        if !self.accepted && (progress.accepted || ended.is_some()) {
            self.accepted = true;
            return Some(RunEvent::Accepted);
        }
        let text = match &ended {
            Some(answer) => Arc::from(answer.text.as_str()),
            None => progress.text,
        };
        match text.strip_prefix(&*self.sent) {
            Some("") => {}
            Some(growth) => {
                let growth = growth.to_owned();
                self.sent = text;
                return Some(RunEvent::Text(growth));
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
        let answer = ended?;
        self.leaving = Leaving::Written;
        Some(RunEvent::Completed(answer))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.run.leave(self.left);
        if self.attached
            && let Some(ended) = &self.progress.borrow().ended
        {
            self.metrics.turn_ended(Decision::Attached, outcome(ended));
        }
    }
}
