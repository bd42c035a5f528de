//! The runs that answer one request, each known by its index among them: one caller's places at all
//! of them.

use std::sync::Arc;

use futures_util::future::{select_all, try_join_all};

use crate::run::subscription::Subscription;
use crate::run::{self, Answer, Place, RunEvent};

/// The runs that answer one request. Dropped before [`Choices::delivered`], it is a hang-up.
#[derive(Debug)]
pub struct Choices {
    places: Vec<Subscription>,
    answers: Vec<Option<Arc<Answer>>>,
    /// The first that failed; it ends them all.
    failed: Option<usize>,
}

impl Choices {
    /// There is at least one place.
    pub fn new(places: Vec<Subscription>) -> Self {
        Self {
            answers: vec![None; places.len()],
            places,
            failed: None,
        }
    }

    /// Where the first stands: the request's own conversation.
    pub fn place(&self) -> Place {
        let first = self.places.first();
        first.expect("a request has a turn").place()
    }

    /// Polls of the upstream so far, for the log.
    pub fn polls(&self) -> u32 {
        self.places.iter().map(Subscription::polls).sum()
    }

    /// The next event of any of them. After the last `Completed`, or a `Failed`, there is none: do
    /// not call again. Safe to drop at any time.
    pub async fn next(&mut self) -> (usize, RunEvent) {
        let places = self.places.iter_mut().zip(&self.answers).enumerate();
        let waiting = places.filter(|(_, (_, answer))| answer.is_none());
        let next =
            waiting.map(|(index, (place, _))| Box::pin(async move { (index, place.next().await) }));
        let ((index, event), _, _) = select_all(next).await;
        match &event {
            RunEvent::Accepted | RunEvent::Text(_) => {}
            RunEvent::Completed(answer) => {
                if let Some(place) = self.answers.get_mut(index) {
                    *place = Some(Arc::clone(answer));
                }
            }
            RunEvent::Failed(_) => self.failed = Some(index),
        }
        (index, event)
    }

    /// Waits for all answers, or the first failure. Safe to drop at any time.
    pub async fn answers(&mut self) -> Result<Vec<Arc<Answer>>, run::Error> {
        let places = self.places.iter_mut().enumerate();
        let ends = places.map(|(index, place)| async move {
            let answer = place.answer().await;
            answer.map_err(|error| (index, error))
        });
        match try_join_all(ends).await {
            Ok(answers) => {
                self.answers = answers.iter().cloned().map(Some).collect();
                Ok(answers)
            }
            Err((index, error)) => {
                self.failed = Some(index);
                Err(error)
            }
        }
    }

    /// All answers in order, once each has come.
    pub fn all(&self) -> Option<Vec<Arc<Answer>>> {
        self.answers.iter().cloned().collect()
    }

    /// The last byte was accepted by the caller's socket. Where one failed, the caller was told of
    /// that one alone: the answers of the others stay owed.
    pub fn delivered(self) {
        let is_whole = self.all().is_some();
        for (index, place) in self.places.into_iter().enumerate() {
            if is_whole || self.failed == Some(index) {
                place.delivered();
            }
        }
    }
}
