//! An answer as one body: `chat.completion`.

use std::sync::Arc;

use serde::Serialize;

use super::calls::{Told, finish_reason};
use crate::openai::Head;
use crate::openai::choices::Choices;
use crate::openai::forms::Calls;
use crate::openai::usage::Usage;
use crate::run::Answer;

/// The body of a chat completion, a choice for each answer.
pub fn completion<'a>(
    head: &'a Head,
    answers: &'a [Arc<Answer>],
    prompt_tokens: u64,
    calls: Calls,
) -> impl Serialize + use<'a> {
    let choices = answers.iter().enumerate().map(|(index, answer)| Choice {
        index,
        message: Message {
            role: "assistant",
            content: answer.calls.is_empty().then_some(answer.text.as_str()),
            refusal: None,
            annotations: Annotation::all(answer),
            calls: Told::whole(answer, calls),
        },
        logprobs: None,
        finish_reason: finish_reason(answer.finish, calls),
    });
    let usage = Usage::of(prompt_tokens, answers);
    Choices::new(
        "chat.completion",
        head,
        choices.collect(),
        Some(Some(usage)),
    )
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
    /// `None` where functions are called.
    content: Option<&'a str>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    #[serde(flatten)]
    calls: Told<'a>,
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
