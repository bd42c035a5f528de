//! A request for completions becomes turns: one for each prompt and choice.

use std::fmt;

use super::request::{CompletionRequest, Piece, Prompt};
use crate::conversation::{Limits, Role, Turn};
use crate::openai::basis::{self, Basis, MOST_CHOICES};
use crate::openai::fields::Fields;
use crate::openai::messages::{Entry, Split, said};
use crate::openai::params::{self, COMPLETIONS};
use crate::openai::{Envelope, Error, Policy};

/// A request understood: its turns, and how the caller wants to be answered.
#[derive(Clone)]
pub struct Asked {
    /// By the index of their choice: all choices for one prompt, then those for the next.
    pub turns: Vec<Turn>,
    pub stream: bool,
    /// Whether a stream ends with a chunk that tells the usage.
    pub include_usage: bool,
    /// What each choice's text begins with, where the prompts are to be said again.
    pub echoes: Vec<String>,
    /// The name that the caller asked for.
    pub model: String,
    /// The fields that change nothing here, for `X-Ignored-Params`.
    pub ignored: Vec<String>,
    /// Of all prompts.
    pub prompt_tokens: u64,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("model", &self.model)
            .field("turns", &self.turns.len())
            .finish_non_exhaustive()
    }
}

impl CompletionRequest {
    /// What the request asks for, or why it cannot be had.
    pub fn into_turns(self, envelope: Envelope, policy: &Policy) -> Result<Asked, Error> {
        let fields = Fields::new(&self.fields);
        let basis = Basis::read(envelope, fields, policy)?;
        let include_usage = basis.include_usage(fields)?;
        let limits = Limits {
            stop: basis::stop(fields)?,
            max_tokens: fields.count("max_tokens")?,
        };
        let echo = fields.flag("echo")?.unwrap_or(false);
        let choices = basis::choices(fields)?;
        let ignored = params::ignored(COMPLETIONS, &self.fields, &[], policy)?;
        let prompts = prompts(self.prompt)?;
        if prompts.len().saturating_mul(choices) > MOST_CHOICES {
            let message = format!("prompts times n must be at most {MOST_CHOICES}");
            return Err(Error::invalid("prompt", message));
        }
        let echoes = prompts
            .iter()
            .flat_map(|text| std::iter::repeat_n(text, choices));
        let echoes = if echo {
            echoes.cloned().collect()
        } else {
            Vec::new()
        };
        let mut asked = Asked {
            turns: Vec::new(),
            stream: basis.stream,
            include_usage,
            echoes,
            model: basis.model.clone(),
            ignored,
            prompt_tokens: 0,
        };
        for prompt in prompts {
            let split = Split::of(vec![Entry::Said(said(Role::User, prompt))], "prompt")?;
            asked.prompt_tokens += split.tokens();
            for _ in 0..choices {
                let turn = Turn {
                    limits: limits.clone(),
                    choice: u8::try_from(asked.turns.len()).unwrap_or(u8::MAX),
                    ..basis.turn(split.clone())
                };
                asked.turns.push(turn);
            }
        }
        Ok(asked)
    }
}

fn prompts(prompt: Option<Prompt>) -> Result<Vec<String>, Error> {
    let missing = || Error::invalid("prompt", "prompt must be a string or an array of strings");
    let texts = match prompt.ok_or_else(missing)? {
        Prompt::One(text) => return Ok(vec![text]),
        Prompt::Several(pieces) => pieces.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(text),
            Piece::Tokens => Err(Error::unsupported(
                "prompt",
                "prompt must be text: the upstream knows no tokens",
            )),
        }),
    };
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    if texts.is_empty() {
        return Err(missing());
    }
    Ok(texts)
}
