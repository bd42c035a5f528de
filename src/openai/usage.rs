//! Tokens, estimated: the upstream reports none.

use std::sync::Arc;

use serde::Serialize;

use crate::conversation::{Message, ToolCall};
use crate::form::Form;
use crate::run::Answer;
use crate::run::tokens::estimate;

/// The tokens of a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub answer: u64,
}

impl Tokens {
    /// `prompt` as [`prompt_tokens`] counted them.
    pub fn of(prompt: u64, answer: &Answer) -> Self {
        let calls = answer.calls.iter();
        let calls: u64 = calls.map(call_tokens).sum();
        Self {
            prompt,
            answer: estimate(&answer.text) + calls,
        }
    }
}

/// Tokens as chat and legacy completions tell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Usage {
    /// `prompt_tokens` as [`prompt_tokens`] counted them.
    pub fn of(prompt_tokens: u64, answers: &[Arc<Answer>]) -> Self {
        let answers = answers
            .iter()
            .map(|answer| Tokens::of(prompt_tokens, answer).answer);
        let completion_tokens = answers.sum();
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
        }
    }
}

/// The tokens of all that a request says.
pub fn prompt_tokens<'a>(
    instructions: Option<&str>,
    messages: impl Iterator<Item = &'a Message>,
) -> u64 {
    // OpenAI's own count, as for each message 3 and its role.
    const ANSWER: u64 = 3;
    let instructions = instructions.map_or(0, |text| MESSAGE + estimate(text));
    let messages: u64 = messages
        .map(|message| {
            let calls = message.calls.iter().map(call_tokens);
            let text = message.facts().map(|facts| facts.tokens);
            MESSAGE + text.unwrap_or_else(|| estimate(&message.text)) + calls.sum::<u64>()
        })
        .sum();
    ANSWER + instructions + messages
}

/// The tokens of a format or of tools, each time they are asked for: OpenAI counts them so, though a
/// thread is told of them once.
pub fn form_tokens(form: Option<&Form>) -> u64 {
    form.map_or(0, |form| estimate(form.block()))
}

const MESSAGE: u64 = 4;

fn call_tokens(call: &ToolCall) -> u64 {
    MESSAGE + estimate(&call.name) + estimate(&call.arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Role;

    #[test]
    fn a_prompt_costs_its_text_and_a_little_for_each_message() {
        let message = Message::said(Role::User, "Hi");

        assert_eq!(prompt_tokens(None, [&message].into_iter()), 8);
        assert_eq!(
            prompt_tokens(Some("Be kind."), [&message].into_iter()),
            12 + estimate("Be kind.")
        );
    }

    #[test]
    fn the_total_is_the_sum() {
        let answer = |text: &str| {
            Arc::new(Answer {
                text: text.to_owned(),
                ..Answer::default()
            })
        };

        let usage = Usage::of(8, &[answer("Yes"), answer("Nobody knows")]);

        let said = estimate("Yes") + estimate("Nobody knows");
        assert_eq!(
            (usage.completion_tokens, usage.total_tokens),
            (said, 8 + said)
        );
    }
}
