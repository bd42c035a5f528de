//! Reads an answer in the form that was asked for. One that is not in it is mended, on a thread of its
//! own, so that the caller's thread never hears of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Reading;
use super::audience::Run;
use super::ending::{Ending, Scratch, called, ending};
use super::listing::mark;
use super::live::Shared;
use super::poll::{Ended, Poll};
use super::post::{Post, Unposted};
use super::{Answer, Error, Finish};
use crate::conversation::{Caller, Limits, Turn, fingerprint, transcript};
use crate::form::{Complaints, Content, Form};
use crate::planted::{Bug, is_planted};
use crate::store::Seen;
use crate::upstream::ThreadId;

/// How a caller wants its answer.
#[derive(Clone, Default)]
pub struct Wanted {
    pub limits: Limits,
    pub form: Option<Arc<Form>>,
    /// What is asked, where there is a form.
    question: String,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Wanted {
    pub fn by(turn: &Turn) -> Self {
        let question = || transcript::prompt(&turn.history, &turn.prompt);
        Self {
            limits: turn.limits.clone(),
            form: turn.form.clone(),
            question: turn.form.as_ref().map(|_| question()).unwrap_or_default(),
        }
    }

    /// Free text of so many tokens.
    pub fn text(max_tokens: Option<u64>) -> Self {
        Self {
            limits: Limits {
                stop: Vec::new(),
                max_tokens,
            },
            ..Self::default()
        }
    }
}

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
            Err(_) if is_planted(Bug::FormUnchecked) => return Ok(self.cut(reading, finish)),
            Err(complaints) => complaints,
        };
        let mut answer = reading.text.clone().unwrap_or_default();
        for _ in 0..self.shared.repairs {
            if self.run.is_withdrawn() {
                break;
            }
            let Some(mended) = self
                .mended(&form.mend(&self.wanted.question, &answer, &complaints))
                .await?
            else {
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
        Err(Error::Unformed(complaints.to_string()))
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
        let posted = mark(salt, text);
        let accepted = match self.planted_thread() {
            None => post.begin(text).await,
            Some(thread) => post.append(&thread, Seen::default(), text, posted).await,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(Unposted::Refused(error @ Error::KeyRefused(_))) => return Err(error),
            Err(_) => return Ok(None),
        };
        let scratch = Scratch {
            thread: accepted.posted.thread.clone(),
            posted,
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
            age: Duration::ZERO,
        };
        let before = self.run.progress.look(|progress| progress.polls);
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

    /// The caller's own, where that bug is planted.
    fn planted_thread(&self) -> Option<ThreadId> {
        let own = || self.run.record()?.thread;
        is_planted(Bug::MendsInPlace)
            .then(own)?
            .map(|id| ThreadId(id.into()))
    }
}
