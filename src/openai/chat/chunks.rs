//! An answer as a stream: one `chat.completion.chunk` after another.

use serde::Serialize;

use super::completion::{Annotation, finish_reason};
use crate::openai::Head;
use crate::openai::usage::Usage;
use crate::run::Answer;

/// Makes the chunks of one stream, each a line of JSON.
#[derive(Clone, Debug)]
pub struct Chunks {
    head: Head,
    include_usage: bool,
    prompt_tokens: u64,
}

impl Chunks {
    pub fn new(head: Head, include_usage: bool, prompt_tokens: u64) -> Self {
        Self {
            head,
            include_usage,
            prompt_tokens,
        }
    }

    /// The first chunk: who speaks.
    pub fn begin(&self) -> String {
        self.delta(&Delta {
            role: Some("assistant"),
            content: Some(""),
            ..Delta::default()
        })
    }

    pub fn text(&self, text: &str) -> String {
        self.delta(&Delta {
            content: Some(text),
            ..Delta::default()
        })
    }

    /// A chunk that says nothing. No client minds it, which is not so for comments.
    pub fn keep_alive(&self) -> String {
        self.delta(&Delta::default())
    }

    /// The chunks after the last text: sources, the finish reason, and the usage if it was asked for.
    pub fn end(&self, answer: &Answer) -> Vec<String> {
        let mut chunks = Vec::new();
        let annotations = Annotation::all(answer);
        if !annotations.is_empty() {
            chunks.push(self.delta(&Delta {
                annotations,
                ..Delta::default()
            }));
        }
        chunks.push(self.choice(&Delta::default(), Some(finish_reason(answer.finish))));
        if self.include_usage {
            let usage = Usage::new(self.prompt_tokens, &answer.text);
            chunks.push(self.chunk(&[], Some(Some(usage))));
        }
        chunks
    }

    fn delta(&self, delta: &Delta<'_>) -> String {
        self.choice(delta, None)
    }

    fn choice(&self, delta: &Delta<'_>, finish_reason: Option<&'static str>) -> String {
        let choice = Choice {
            index: 0,
            delta,
            logprobs: None,
            finish_reason,
        };
        self.chunk(&[choice], self.include_usage.then_some(None))
    }

    fn chunk(&self, choices: &[Choice<'_>], usage: Option<Option<Usage>>) -> String {
        let chunk = Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            choices,
            usage,
        };
        serde_json::to_string(&chunk).expect("text, numbers and structs can always be written")
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
    index: u32,
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
