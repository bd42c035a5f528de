//! Answers as one body, or as a stream: one `chat.completion.chunk` after another.

use std::sync::Arc;

use serde::Serialize;

use super::calls::{Told, finish_reason};
use super::completion::{Annotation, completion};
use crate::openai::Head;
use crate::openai::choices::Choices;
use crate::openai::forms::Calls;
use crate::openai::render::{Event, Render, json, json_of};
use crate::openai::usage::Usage;
use crate::run::Answer;

/// Tells the answers to one request.
#[derive(Clone, Debug)]
pub struct Chunks {
    head: Head,
    choices: usize,
    include_usage: bool,
    prompt_tokens: u64,
    calls: Calls,
}

impl Render for Chunks {
    fn body(&self, answers: &[Arc<Answer>]) -> String {
        let texts = answers.iter().map(|answer| answer.text.len()).sum();
        let completion = completion(&self.head, answers, self.prompt_tokens, self.calls);
        json_of(texts, &completion)
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

    /// The sources, the calls, and the finish reason.
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
        for calls in Told::parts(answer, self.calls) {
            let calls = Delta {
                calls,
                ..Delta::default()
            };
            chunks.push(self.delta(index, &calls));
        }
        let reason = finish_reason(answer.finish, self.calls);
        chunks.push(self.choice(index, &Delta::default(), Some(reason)));
        chunks
    }

    /// The usage, if it was asked for.
    fn close(&mut self, answers: &[Arc<Answer>]) -> Vec<Event> {
        let usage = || Usage::of(self.prompt_tokens, answers);
        let usage = self
            .include_usage
            .then(|| self.chunk(Vec::new(), Some(Some(usage()))));
        usage.into_iter().chain([Event::done()]).collect()
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
            calls: Calls::default(),
        }
    }

    /// Calls are told so.
    pub fn telling(self, calls: Calls) -> Self {
        Self { calls, ..self }
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
        self.chunk(vec![choice], self.include_usage.then_some(None))
    }

    fn chunk(&self, choices: Vec<Choice<'_>>, usage: Option<Option<Usage>>) -> Event {
        let object = "chat.completion.chunk";
        Event::unnamed(json(&Choices::new(object, &self.head, choices, usage)))
    }
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
    #[serde(flatten)]
    calls: Told<'a>,
}
