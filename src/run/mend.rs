//! Reads an answer in the form that was asked for. One that is not in it is mended, on a thread of its
//! own, so that the caller's thread never hears of it.

use tokio::time::Instant;

use super::answer::Reading;
use super::audience::{Run, Wanted};
use super::ending::{Ending, Scratch, called, ending};
use super::listing::mark;
use super::live::Shared;
use super::poll::{Ended, Poll};
use super::post::{Post, Unposted};
use super::{Answer, Error, Finish};
use crate::conversation::{Caller, fingerprint};
use crate::form::{Complaints, Content, Form};

/// How many complaints a caller is told.
const TOLD: usize = 3;

/// Makes an answer of what a thread shows.
#[derive(Debug)]
pub struct Mend<'a> {
    pub shared: &'a Shared,
    pub run: &'a Run,
    pub caller: &'a Caller,
    pub wanted: &'a Wanted,
    /// When the run is given up.
    pub limit: Instant,
}

/// What a thread of its own shows of an answer that was to be mended.
struct Mended {
    scratch: Scratch,
    reading: Reading,
    finish: Finish,
}

impl Mend<'_> {
    /// The answer as its caller is to have it, whichever thread it came from.
    pub async fn ending(&self, reading: &Reading, finish: Finish) -> Result<Ending, Error> {
        let Some(form) = &self.wanted.form else {
            return Ok(self.cut(reading, finish));
        };
        let ending = self.formed(form, reading, finish).await?;
        Ok(Ending {
            form: Some(fingerprint::form(&self.shared.salt, form)),
            ..ending
        })
    }

    async fn formed(
        &self,
        form: &Form,
        reading: &Reading,
        finish: Finish,
    ) -> Result<Ending, Error> {
        let mut complaints = match self.read(form, reading, finish) {
            Ok(ending) => return Ok(ending),
            Err(complaints) => complaints,
        };
        let mut answer = reading.text.clone().unwrap_or_default();
        for _ in 0..self.shared.repairs {
            let Some(mended) = self.mended(&form.mend(&answer, &complaints)).await? else {
                break;
            };
            complaints = match self.read(form, &mended.reading, mended.finish) {
                Ok(ending) => {
                    return Ok(Ending {
                        scratch: Some(mended.scratch),
                        ..ending
                    });
                }
                Err(complaints) => complaints,
            };
            answer = mended.reading.text.unwrap_or_default();
        }
        complaints.0.truncate(TOLD);
        Err(Error::Unformed(complaints.0.join("; ")))
    }

    fn cut(&self, reading: &Reading, finish: Finish) -> Ending {
        ending(&self.shared.salt, &self.wanted.limits, reading, finish)
    }

    /// What has a form is not cut: half of it would have none. Where it came whole, it does not matter
    /// how the run ended.
    fn read(&self, form: &Form, reading: &Reading, finish: Finish) -> Result<Ending, Complaints> {
        let salt = &self.shared.salt;
        let whole = reading.text.as_deref().unwrap_or_default();
        let answer = match form.read(whole)? {
            Content::Text => return Ok(self.cut(reading, finish)),
            Content::Json(text) => Answer {
                text,
                ..Answer::default()
            },
            Content::Calls(calls) => Answer {
                calls: called(salt, self.run, calls),
                finish: Finish::Calls,
                ..Answer::default()
            },
        };
        Ok(Ending::of(salt, answer, whole))
    }

    /// Has an answer mended. `None` where nothing came of it: it is not tried again, as nobody knows
    /// what came of a POST that had no clear answer.
    async fn mended(&self, text: &str) -> Result<Option<Mended>, Error> {
        let Shared {
            salt,
            calls,
            pace,
            metrics,
            ..
        } = self.shared;
        let post = Post {
            calls,
            pace,
            caller: self.caller,
            limit: self.limit,
        };
        let accepted = match post.begin(text).await {
            Ok(accepted) => accepted,
            Err(Unposted::Refused(error @ Error::KeyRefused(_))) => return Err(error),
            Err(_) => return Ok(None),
        };
        let scratch = Scratch {
            thread: accepted.posted.thread.clone(),
            posted: mark(salt, text),
        };
        let poll = Poll {
            calls,
            pace,
            metrics,
            caller: self.caller,
            thread: &scratch.thread,
            mark: scratch.posted,
            limit: self.limit,
            run: self.run,
            wary: false,
        };
        let before = self.run.watch().borrow().polls;
        let report = |polls, _: &str| {
            self.run.report(|progress| progress.polls = before + polls);
        };
        match poll.follow(&accepted, report).await {
            Ended::Answered(reading, finish) => Ok(Some(Mended {
                scratch,
                reading,
                finish,
            })),
            Ended::Failed(error @ Error::KeyRefused(_)) => Err(error),
            Ended::Failed(_) | Ended::Lost => Ok(None),
        }
    }
}
