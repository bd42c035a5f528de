//! An answer that was there before, read from its thread again, and believed only by what it was
//! known by.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::answer::{Reading, read_off};
use super::audience::Run;
use super::ending::{answered, called, ending, said};
use super::listing::Listing;
use super::live::Shared;
use super::replay::TRANSCRIPT_READS;
use super::{Answer, Error, Finish};
use crate::conversation::{Caller, Limits};
use crate::form::{Content, Kind};
use crate::store::record::{Cut, Phase, Turn};
use crate::upstream::{ReadError, RunStatus, ThreadId};

/// The answer of a response, for one who asks for it by its id: nothing is known but what is remembered.
#[derive(Debug)]
pub struct Recall {
    pub shared: Arc<Shared>,
    pub run: Arc<Run>,
    pub caller: Caller,
    pub turn: Turn,
}

impl Drop for Recall {
    fn drop(&mut self) {
        if !self.run.has_ended() {
            let why = if self.shared.is_stopped() {
                Error::ShuttingDown
            } else {
                Error::Internal
            };
            self.rest(why);
        }
    }
}

impl Recall {
    /// Tells the answer, whoever listens.
    pub async fn out(self) {
        let id = self.run.response.map(|id| id.to_string());
        let no_response = || Error::NoResponse(id.unwrap_or_default());
        let limit = Instant::now() + self.shared.settings.limit;
        match recollect(&self.shared, &self.caller, &self.turn, limit).await {
            Ok(Some((reading, finish))) => match self.answer(&reading, finish) {
                Some(answer) => self.run.end(Ok(Arc::new(answer))),
                None => self.rest(no_response()),
            },
            Ok(None) => {
                self.shared.ledger.forget_response(&self.run);
                self.run.end(Err(no_response()));
            }
            // It is not there any more.
            Err(Error::Upstream { posted: true, .. }) => self.rest(no_response()),
            Err(error) => self.rest(error),
        }
    }

    /// Whoever asks next has it tried again.
    fn rest(&self, error: Error) {
        self.shared.put_to_rest(&self.run);
        self.run.end(Err(error));
    }

    /// The answer as its caller was told it: of several ways to read a text, the one that the
    /// conversation went on from.
    fn answer(&self, reading: &Reading, finish: Finish) -> Option<Answer> {
        let salt = &self.shared.salt;
        let kept = self.turn.kept.as_ref()?;
        let told = |answer: &Answer| {
            let tip = self.turn.prompted.then(salt, &answered(salt, answer));
            kept.point.as_ref().is_none_or(|point| point.tip == tip)
        };
        let whole = reading.text.as_deref().unwrap_or_default();
        let readings = match kept.form {
            Kind::Text => vec![Content::Text],
            form => form.readings(whole),
        };
        let answers = readings.into_iter().map(|content| match content {
            Content::Text => ending(salt, &limits(&self.turn), reading, finish).answer,
            Content::Json(text) => Answer {
                text,
                ..Answer::default()
            },
            Content::Calls(calls) => Answer {
                calls: called(salt, &self.run, calls),
                finish: Finish::Calls,
                ..Answer::default()
            },
        });
        answers.into_iter().find(told)
    }
}

/// Whether there is an answer that was checked when it was told, or need not be.
pub fn is_checked(turn: &Turn) -> bool {
    let is_answered = matches!(turn.phase, Phase::Answered(_));
    let kept = turn.kept.as_ref().filter(|_| is_answered);
    kept.is_some_and(|kept| {
        let is_plain = kept.form == Kind::Text && matches!(turn.cut, Cut::At(_));
        is_plain || kept.point.is_some()
    })
}

/// Told of an answer that nobody can check any more.
pub fn unchecked() -> Error {
    let why = "the proxy was restarted before the answer could be checked, and does not keep over a \
               restart what it was to look like; send the request again";
    Error::Unformed(why.to_owned())
}

/// What the thread shows of the answer that a turn had. `None` where the turn had none, or the thread
/// is lost.
pub async fn recollect(
    shared: &Shared,
    caller: &Caller,
    left: &Turn,
    limit: Instant,
) -> Result<Option<(Reading, Finish)>, Error> {
    let (Phase::Answered(_), Some(thread)) = (left.phase, &left.thread) else {
        return Ok(None);
    };
    let thread = ThreadId(thread.as_str().into());
    let mut fault = Error::Unreachable;
    let mut lost = false;
    for failures in 1..=TRANSCRIPT_READS {
        let read = shared.calls.read_at_last(caller, &thread, limit);
        match read.await {
            Ok(listing) => match recognise(shared, left, &listing) {
                Some(shown) => return Ok(Some(shown)),
                None => {
                    fault = Error::Upstream {
                        what: "the answer is not in its thread any more".to_owned(),
                        posted: true,
                    }
                }
            },
            Err(ReadError::KeyRefused(status)) => return Err(Error::KeyRefused(status)),
            Err(ReadError::NoThread) if lost => {
                shared.close(left.branch);
                return Ok(None);
            }
            // What was read before may be lost for a moment only.
            Err(ReadError::NoThread) => lost = true,
            Err(ReadError::Busy(_) | ReadError::Passing(_)) => {}
        }
        sleep(shared.pace.back_off(&thread, failures, None)).await;
    }
    Err(fault)
}

/// What one read shows of an answer, if it is the one that was there.
fn recognise(shared: &Shared, left: &Turn, listing: &Listing) -> Option<(Reading, Finish)> {
    let reading = read_off(&shared.salt, &left.seen, left.posted, listing);
    let finish = match listing.status {
        Some(RunStatus::Incomplete) => Finish::Length,
        _ => Finish::Stop,
    };
    let text = reading.text.as_deref().unwrap_or_default();
    let whole = said(&shared.salt, text);
    (reading.ours && left.phase == Phase::Answered(whole)).then_some((reading, finish))
}

fn limits(turn: &Turn) -> Limits {
    Limits {
        stop: Vec::new(),
        max_tokens: match turn.cut {
            Cut::At(max_tokens) => max_tokens,
            Cut::Unsaid => None,
        },
    }
}
