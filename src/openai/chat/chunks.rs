//! Answers as one body, or as a stream: one `chat.completion.chunk` after another.

use std::sync::Arc;

use serde::Serialize;

use super::completion::{Annotation, completion, finish_reason};
use crate::openai::Head;
use crate::openai::render::{Ending, Event, Fault, Render, json};
use crate::openai::usage::Usage;
use crate::run::Answer;

/// Tells the answers to one request.
#[derive(Clone, Debug)]
pub struct Chunks {
    head: Head,
    choices: usize,
    include_usage: bool,
    prompt_tokens: u64,
}

impl Render for Chunks {
    fn body(&self, answers: &[Arc<Answer>]) -> String {
        json(&completion(&self.head, answers, self.prompt_tokens))
    }

    /// Who speaks.
    fn begin(&mut self) -> Vec<Event> {
        let role = Delta {
            role: Some("assistant"),
            content: Some(""),
            ..Delta::default()
        };
        let choices = 0..self.choices;
        choices.map(|index| self.delta(index, &role)).collect()
    }

    fn text(&mut self, index: usize, text: &str) -> Vec<Event> {
        let delta = Delta {
            content: Some(text),
            ..Delta::default()
        };
        vec![self.delta(index, &delta)]
    }

    /// No client minds a chunk that says nothing, which is not so for comments.
    fn keep_alive(&mut self) -> Option<Event> {
        Some(self.delta(0, &Delta::default()))
    }

    /// The sources and the finish reason.
    fn end(&mut self, index: usize, answer: &Answer) -> Vec<Event> {
        let mut chunks = Vec::new();
        let annotations = Annotation::all(answer);
        if !annotations.is_empty() {
            let sources = Delta {
                annotations,
                ..Delta::default()
            };
            chunks.push(self.delta(index, &sources));
        }
        let reason = finish_reason(answer.finish);
        chunks.push(self.choice(index, &Delta::default(), Some(reason)));
        chunks
    }

    /// The usage, if it was asked for.
    fn close(&mut self, answers: &[Arc<Answer>]) -> Vec<Event> {
        let usage = || Usage::of(self.prompt_tokens, answers);
        let usage = self
            .include_usage
            .then(|| self.chunk(&[], Some(Some(usage()))));
        usage.into_iter().chain([Event::done()]).collect()
    }

    fn failed(&mut self, fault: &Fault<'_>) -> (Vec<Event>, Ending) {
        fault.broken_off()
    }
}

impl Chunks {
    /// For so many choices.
    pub fn new(head: Head, choices: usize, include_usage: bool, prompt_tokens: u64) -> Self {
        Self {
            head,
            choices,
            include_usage,
            prompt_tokens,
        }
    }

    fn delta(&self, index: usize, delta: &Delta<'_>) -> Event {
        self.choice(index, delta, None)
    }

    fn choice(&self, index: usize, delta: &Delta<'_>, reason: Option<&'static str>) -> Event {
        let choice = Choice {
            index,
            delta,
            logprobs: None,
            finish_reason: reason,
        };
        self.chunk(&[choice], self.include_usage.then_some(None))
    }

    fn chunk(&self, choices: &[Choice<'_>], usage: Option<Option<Usage>>) -> Event {
        Event::unnamed(json(&Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            choices,
            usage,
        }))
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    /// Absent where usage was not asked for, `null` on all chunks but the last where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    delta: &'a Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
}
