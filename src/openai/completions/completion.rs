//! Answers as one `text_completion`, or as a stream of them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::openai::Head;
use crate::openai::usage::{Tokens, Usage};
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
    let usage = Some(Some(total(answers, prompt_tokens)));
    Completion::new(head, choices.collect(), usage)
}

/// Makes the chunks of one stream, each a line of JSON.
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

impl Chunks {
    pub fn new(head: Head, include_usage: bool, echoes: Vec<String>, prompt_tokens: u64) -> Self {
        Self {
            head,
            include_usage,
            echoes,
            prompt_tokens,
        }
    }

    /// What a stream begins with: what is said again of the prompts.
    pub fn begin(&self) -> Vec<String> {
        let echoes = self.echoes.iter().enumerate();
        echoes.map(|(index, text)| self.text(index, text)).collect()
    }

    /// The choice grew.
    pub fn text(&self, index: usize, text: &str) -> String {
        self.choice(index, text, None)
    }

    /// A chunk that says nothing.
    pub fn keep_alive(&self) -> String {
        self.text(0, "")
    }

    /// The choice is whole, and its texts have been told.
    pub fn end(&self, index: usize, answer: &Answer) -> String {
        self.choice(index, "", Some(finish_reason(answer.finish)))
    }

    /// All choices are whole: the usage, if it was asked for.
    pub fn close(&self, answers: &[Arc<Answer>]) -> Option<String> {
        let usage = || total(answers, self.prompt_tokens);
        self.include_usage
            .then(|| self.chunk(Vec::new(), Some(Some(usage()))))
    }

    fn choice(&self, index: usize, text: &str, finish_reason: Option<&'static str>) -> String {
        let choice = Choice {
            text: text.to_owned(),
            index,
            logprobs: None,
            finish_reason,
        };
        self.chunk(vec![choice], self.include_usage.then_some(None))
    }

    fn chunk(&self, choices: Vec<Choice>, usage: Option<Option<Usage>>) -> String {
        let chunk = Completion::new(&self.head, choices, usage);
        serde_json::to_string(&chunk).expect("text, numbers and structs can always be written")
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

fn total(answers: &[Arc<Answer>], prompt: u64) -> Usage {
    let answers = answers.iter();
    let answer = answers
        .map(|answer| Tokens::of(prompt, answer).answer)
        .sum();
    Usage::from(Tokens { prompt, answer })
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
