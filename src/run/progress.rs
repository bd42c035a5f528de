//! How far a run has come, as whoever listens to it is told.

use std::sync::Arc;

use super::{Answer, Error, Place};
use crate::conversation::ToolCall;

/// How far a run has come.
#[derive(Clone, Debug)]
pub struct Progress {
    pub place: Place,
    /// The upstream has the message, and that outlives the process.
    pub accepted: bool,
    /// What may be sent of the answer once it is accepted, until it is whole.
    pub text: Arc<str>,
    /// Where each piece of the text ends. All who listen are told the same pieces, whenever they came.
    pub pieces: Arc<[usize]>,
    pub polls: u32,
    /// Nobody wants the answer any more: whoever listens is told so, and the run goes on to its end.
    pub withdrawn: bool,
    pub ended: Option<Result<Arc<Answer>, Error>>,
}

impl Progress {
    /// What the answer calls, once it is there.
    pub fn calls(&self) -> Vec<ToolCall> {
        match &self.ended {
            Some(Ok(answer)) => answer.calls.clone(),
            Some(Err(_)) | None => Vec::new(),
        }
    }

    /// Whether the upstream has the message, and that outlives the process, or the end is known.
    pub fn is_accepted(&self) -> bool {
        self.accepted || self.ended.is_some()
    }

    pub fn at(place: Place) -> Self {
        Self {
            place,
            accepted: false,
            text: Arc::default(),
            pieces: Arc::default(),
            polls: 0,
            withdrawn: false,
            ended: None,
        }
    }

    /// Notes what may be sent by now. A text that is shown shorter for a while is not taken back.
    pub fn grow(&mut self, text: Arc<str>) {
        if self.text.starts_with(&*text) {
            return;
        }
        if !text.starts_with(&*self.text) {
            self.pieces = Arc::default();
        }
        let ends = self.pieces.iter().copied();
        self.pieces = ends.chain([text.len()]).collect();
        self.text = text;
    }

    /// Begins anew where the thread was lost, unless somebody may have been sent of its text.
    pub fn lose(&mut self) {
        if !self.accepted {
            self.text = Arc::default();
            self.pieces = Arc::default();
        }
    }

    /// Notes the end. The first one counts.
    pub fn end(&mut self, end: Result<Arc<Answer>, Error>) {
        if self.ended.is_some() {
            return;
        }
        if let Ok(answer) = &end
            && !answer.text.starts_with(&*self.text)
        {
            self.pieces = Arc::default();
        }
        // The answer holds the whole text.
        self.text = Arc::default();
        self.ended = Some(end);
    }

    /// Why there is no answer, once that is known.
    pub fn error(&self) -> Option<Error> {
        if self.withdrawn {
            return Some(withdrawn());
        }
        match &self.ended {
            Some(Err(error)) => Some(error.clone()),
            Some(Ok(_)) | None => None,
        }
    }

    /// Whether there is an end that whoever listens is told: [`Progress::end_told`] has one then, and only then.
    pub fn is_over(&self) -> bool {
        self.withdrawn || self.ended.is_some()
    }

    /// How it ended, as whoever listens is told.
    pub fn end_told(&self) -> Option<Result<Arc<Answer>, Error>> {
        match self.error() {
            Some(error) => Some(Err(error)),
            None => self.ended.clone(),
        }
    }

    /// The end of the piece that begins after so many bytes of a text.
    pub fn piece_after(&self, sent: usize) -> Option<usize> {
        let next = self.pieces.partition_point(|end| *end <= sent);
        self.pieces.get(next).copied()
    }
}

/// What is told of a run whose answer nobody wants any more.
pub fn withdrawn() -> Error {
    Error::Cancelled("its caller asked for that".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Decision;
    use crate::ids::Handle;

    fn progress(texts: &[&str]) -> Progress {
        let mut progress = Progress::at(Place {
            conversation: Handle("".into()),
            decision: Decision::Created,
            is_replay: false,
        });
        for text in texts {
            progress.grow(Arc::from(*text));
        }
        progress
    }

    #[test]
    fn a_piece_ends_wherever_the_text_has_grown() {
        for (texts, pieces) in [
            (&["", "ab", "abc"][..], &[2, 3][..]),
            (&["ab", "ab", "a", "abcd"], &[2, 4]),
            (&["ab", "abc", "xy"], &[2]),
            (&[""], &[]),
        ] {
            assert_eq!(&*progress(texts).pieces, pieces, "{texts:?}");
        }
    }

    #[test]
    fn text_of_a_lost_thread_is_taken_back_where_nobody_was_told() {
        for (accepted, left) in [(false, ""), (true, "ab")] {
            let mut progress = progress(&["ab"]);
            progress.accepted = accepted;
            progress.lose();

            assert_eq!(&*progress.text, left);
        }
    }

    #[test]
    fn a_text_that_changed_at_its_end_has_no_pieces() {
        let mut changed = progress(&["ab", "abc"]);
        changed.end(Ok(Arc::new(Answer {
            text: "xyz".to_owned(),
            ..Answer::default()
        })));

        assert_eq!(changed.piece_after(0), None);
        assert_eq!(progress(&["ab", "abc"]).piece_after(2), Some(3));
    }
}
