//! How an endpoint words what its runs report.

use std::sync::Arc;

use crate::run::{self, Answer};

/// How an endpoint words what its runs report: as one body, or as the events of a stream. Answers are
/// known by their index among those that the request asks for.
pub trait Render: Send + Sync + 'static {
    /// All answers as one body of JSON.
    fn body(&self, answers: &[Arc<Answer>]) -> String;

    /// What a stream begins with.
    fn begin(&mut self) -> Vec<Event>;

    /// The answer grew.
    fn text(&mut self, index: usize, text: &str) -> Vec<Event>;

    /// An event that says nothing; `None` where its clients take none.
    fn keep_alive(&mut self) -> Option<Event>;

    /// The answer is whole, and its texts have been told.
    fn end(&mut self, index: usize, answer: &Answer) -> Vec<Event>;

    /// All answers are whole, and have been told.
    fn close(&mut self, answers: &[Arc<Answer>]) -> Vec<Event>;

    /// Nothing more comes. Most streams have no word of their own for that.
    fn failed(&mut self, fault: &Fault<'_>) -> (Vec<Event>, Ending) {
        (vec![Event::unnamed(fault.envelope)], Ending::BrokenOff)
    }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// For endpoints that name their events.
    pub name: Option<&'static str>,
    /// One line.
    pub data: String,
}

impl Event {
    pub fn unnamed(data: impl Into<String>) -> Self {
        Self {
            name: None,
            data: data.into(),
        }
    }

    /// What clients of completions take for the end.
    pub fn done() -> Self {
        Self::unnamed("[DONE]")
    }
}

/// Why nothing more comes, as the caller is told it.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    pub error: &'a run::Error,
    pub message: &'a str,
    pub code: &'static str,
    /// The body that would be told in place of a stream.
    pub envelope: &'a str,
}

/// How a stream ends that was told why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As every other: what was told is the run's end.
    Whole,
    /// Nobody shall take it for whole.
    BrokenOff,
}

/// A value of ours as one line of JSON.
pub fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect(WRITABLE)
}

/// The same, where so many bytes of text are in it: most are written where they stay.
pub fn json_of(texts: usize, value: &impl serde::Serialize) -> String {
    // For escapes, and for what stands around the texts.
    const AROUND: usize = 768;
    let mut json = Vec::with_capacity(texts + texts / 16 + AROUND);
    serde_json::to_writer(&mut json, value).expect(WRITABLE);
    String::from_utf8(json).expect("JSON is UTF-8")
}

const WRITABLE: &str = "text, numbers and structs can always be written";
