//! An answer as one body: `chat.completion`.

use std::sync::Arc;

use serde::Serialize;

use crate::openai::Head;
use crate::openai::usage::Usage;
use crate::run::{Answer, Finish};

/// The body of a chat completion, a choice for each answer.
pub fn completion<'a>(
    head: &'a Head,
    answers: &'a [Arc<Answer>],
    prompt_tokens: u64,
) -> impl Serialize + use<'a> {
    let choices = answers.iter().enumerate().map(|(index, answer)| Choice {
        index,
        message: Message {
            role: "assistant",
            content: &answer.text,
            refusal: None,
            annotations: Annotation::all(answer),
        },
        logprobs: None,
        finish_reason: finish_reason(answer.finish),
    });
    Completion {
        id: &head.id,
        object: "chat.completion",
        created: head.created,
        model: &head.model,
        choices: choices.collect(),
        usage: Usage::of(prompt_tokens, answers),
    }
}

/// OpenAI's word for why an answer ends.
pub fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
}

/// A source that the answer names.
#[derive(Serialize)]
pub struct Annotation<'a> {
    r#type: &'static str,
    url_citation: UrlCitation<'a>,
}

#[derive(Serialize)]
struct UrlCitation<'a> {
    start_index: usize,
    end_index: usize,
    url: &'a str,
    title: &'a str,
}

impl<'a> Annotation<'a> {
    pub fn all(answer: &'a Answer) -> Vec<Self> {
        answer.sources().map(Self::of).collect()
    }

    fn of(source: &'a crate::upstream::Annotation) -> Self {
        Self {
            r#type: "url_citation",
            url_citation: UrlCitation {
                start_index: source.start,
                end_index: source.end,
                url: &source.url,
                title: &source.title,
            },
        }
    }
}
