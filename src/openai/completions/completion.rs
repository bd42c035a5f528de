//! Answers as one `text_completion`, or as a stream of them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::openai::Head;
use crate::openai::render::{Ending, Event, Fault, Render, json};
use crate::openai::usage::Usage;
use crate::run::{Answer, Finish};

/// The body that holds these answers, each behind what is said again of its prompt.
pub fn completion(
    head: &Head,
    answers: &[Arc<Answer>],
    echoes: &[String],
    prompt_tokens: u64,
) -> impl Serialize {
    let choices = answers.iter().enumerate().map(|(index, answer)| Choice {
        text: format!("{}{}", echo(echoes, index), answer.text),
        index,
        logprobs: None,
        finish_reason: Some(finish_reason(answer.finish)),
    });
    let usage = Some(Some(Usage::of(prompt_tokens, answers)));
    Completion::new(head, choices.collect(), usage)
}

/// Tells the answers to one request.
#[derive(Clone)]
pub struct Chunks {
    head: Head,
    include_usage: bool,
    echoes: Vec<String>,
    prompt_tokens: u64,
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Render for Chunks {
    fn body(&self, answers: &[Arc<Answer>]) -> String {
        json(&completion(
            &self.head,
            answers,
            &self.echoes,
            self.prompt_tokens,
        ))
    }

    /// What is said again of the prompts.
    fn begin(&mut self) -> Vec<Event> {
        let echoes = self.echoes.iter().enumerate();
        let said = echoes.map(|(index, text)| self.choice(index, text, None));
        said.collect()
    }

    fn text(&mut self, index: usize, text: &str) -> Vec<Event> {
        vec![self.choice(index, text, None)]
    }

    fn keep_alive(&mut self) -> Option<Event> {
        Some(self.choice(0, "", None))
    }

    fn end(&mut self, index: usize, answer: &Answer) -> Vec<Event> {
        vec![self.choice(index, "", Some(finish_reason(answer.finish)))]
    }

    /// The usage, if it was asked for.
    fn close(&mut self, answers: &[Arc<Answer>]) -> Vec<Event> {
        let mut chunks = Vec::new();
        if self.include_usage {
            let usage = Usage::of(self.prompt_tokens, answers);
            chunks.push(self.chunk(Vec::new(), Some(Some(usage))));
        }
        chunks.push(Event::done());
        chunks
    }

    fn failed(&mut self, fault: &Fault<'_>) -> (Vec<Event>, Ending) {
        fault.broken_off()
    }
}

impl Chunks {
    pub fn new(head: Head, include_usage: bool, echoes: Vec<String>, prompt_tokens: u64) -> Self {
        Self {
            head,
            include_usage,
            echoes,
            prompt_tokens,
        }
    }

    fn choice(&self, index: usize, text: &str, finish_reason: Option<&'static str>) -> Event {
        let choice = Choice {
            text: text.to_owned(),
            index,
            logprobs: None,
            finish_reason,
        };
        self.chunk(vec![choice], self.include_usage.then_some(None))
    }

    fn chunk(&self, choices: Vec<Choice>, usage: Option<Option<Usage>>) -> Event {
        Event::unnamed(json(&Completion::new(&self.head, choices, usage)))
    }
}

fn echo(echoes: &[String], index: usize) -> &str {
    echoes.get(index).map(String::as_str).unwrap_or_default()
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        // No request of this kind brings functions.
        Finish::Stop | Finish::Calls => "stop",
        Finish::Length => "length",
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    /// Absent where usage was not asked for, `null` on all chunks but the last where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

impl<'a> Completion<'a> {
    fn new(head: &'a Head, choices: Vec<Choice>, usage: Option<Option<Usage>>) -> Self {
        Self {
            id: &head.id,
            object: "text_completion",
            created: head.created,
            model: &head.model,
            choices,
            usage,
        }
    }
}

#[derive(Serialize)]
struct Choice {
    text: String,
    index: usize,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}
