//! A request for completions becomes turns: one for each prompt and choice.

use std::fmt;

use super::request::{CompletionRequest, Piece, Prompt};
use crate::conversation::{Limits, Message, Role, Turn};
use crate::openai::basis::{self, Basis, MOST_CHOICES};
use crate::openai::fields::Fields;
use crate::openai::messages::{Entry, Split};
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
    /// Of all prompts.
    pub prompt_tokens: u64,
    /// The fields that change nothing here, for `X-Ignored-Params`.
    pub ignored: Vec<String>,
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
        let echoes = prompts.iter().filter(|_| echo);
        let echoes = echoes.flat_map(|text| std::iter::repeat_n(text.clone(), choices));
        let mut asked = Asked {
            turns: Vec::new(),
            stream: basis.stream,
            include_usage,
            echoes: echoes.collect(),
            model: basis.model.clone(),
            ignored,
            prompt_tokens: 0,
        };
        for prompt in prompts {
            let split = Split::of(
                vec![Entry::Said(Message::said(Role::User, prompt))],
                "prompt",
            )?;
            asked.prompt_tokens += split.tokens(None);
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

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::openai::Reason::{InvalidValue, Unsupported};

    /// A plain request with these fields on top.
    fn asked(fields: &Value) -> Result<Asked, Error> {
        let mut body = Map::from_iter([
            ("model".to_owned(), json!("m")),
            ("prompt".to_owned(), json!("Hi")),
        ]);
        body.extend(fields.as_object().cloned().unwrap());
        let request: CompletionRequest = serde_json::from_value(Value::Object(body)).unwrap();
        request.into_turns(Envelope::bare(), &Policy::default())
    }

    /// Index and prompt of each turn, for comparing.
    fn prompts(asked: &Asked) -> Vec<(u8, &str)> {
        let turns = asked.turns.iter();
        turns
            .map(|turn| (turn.choice, &*turn.prompt[0].text))
            .collect()
    }

    #[test]
    fn each_prompt_and_choice_is_a_turn_of_its_own() {
        for (fields, expected) in [
            (json!({}), vec![(0, "Hi")]),
            (json!({"prompt": ["a"], "n": null}), vec![(0, "a")]),
            (
                json!({"prompt": ["a", "b"], "n": 2}),
                vec![(0, "a"), (1, "a"), (2, "b"), (3, "b")],
            ),
        ] {
            assert_eq!(prompts(&asked(&fields).unwrap()), expected, "{fields}");
        }
        assert_eq!(asked(&json!({"n": 8})).unwrap().turns.len(), 8);
    }

    #[test]
    fn limits_hold_for_every_turn() {
        let fields = json!({"prompt": ["a", "b"], "stop": "x", "max_tokens": 5, "stream": true,
            "stream_options": {"include_usage": true}, "best_of": 1, "suffix": ""});

        let asked = asked(&fields).unwrap();

        for turn in &asked.turns {
            assert_eq!(turn.limits.stop, ["x"]);
            assert_eq!(turn.limits.max_tokens, Some(5));
        }
        assert!(asked.stream && asked.include_usage && asked.ignored.is_empty());
        assert_eq!(asked.prompt_tokens, 16);
    }

    #[test]
    fn openais_short_default_is_not_applied() {
        assert_eq!(asked(&json!({})).unwrap().turns[0].limits.max_tokens, None);
    }

    #[test]
    fn prompts_are_said_again_for_every_choice_where_that_is_wanted() {
        let echoes = |fields: Value| asked(&fields).unwrap().echoes;

        assert_eq!(echoes(json!({"echo": true, "n": 2})), ["Hi", "Hi"]);
        assert!(echoes(json!({"echo": false})).is_empty());
    }

    #[test]
    fn a_request_that_cannot_be_served_is_refused_by_its_field() {
        for (fields, reason, param) in [
            (json!({"prompt": null}), InvalidValue, "prompt"),
            (json!({"prompt": []}), InvalidValue, "prompt"),
            (json!({"prompt": ""}), InvalidValue, "prompt"),
            (json!({"prompt": [1, 2]}), Unsupported, "prompt"),
            (json!({"prompt": ["a", [1, 2]]}), Unsupported, "prompt"),
            (
                json!({"prompt": ["a", "b", "c"], "n": 3}),
                InvalidValue,
                "prompt",
            ),
            (json!({"n": 9}), InvalidValue, "n"),
            (json!({"n": 0}), InvalidValue, "n"),
            (json!({"echo": "yes"}), InvalidValue, "echo"),
            (json!({"best_of": 2}), Unsupported, "best_of"),
            (json!({"suffix": "b"}), Unsupported, "suffix"),
            (json!({"logprobs": 0}), Unsupported, "logprobs"),
        ] {
            let error = asked(&fields).unwrap_err();

            assert_eq!(error.param.as_deref(), Some(param), "{fields}");
            assert_eq!(error.reason, reason, "{fields}");
        }
    }

    #[test]
    fn a_prompt_of_another_shape_is_told_by_its_place() {
        for (body, path) in [
            (r#"{"prompt": 1}"#, "prompt"),
            (r#"{"prompt": {}}"#, "prompt"),
            (r#"{"prompt": ["a", {}]}"#, "prompt[1]"),
        ] {
            let json = &mut serde_json::Deserializer::from_str(body);

            let read: Result<CompletionRequest, _> = serde_path_to_error::deserialize(json);

            assert_eq!(read.unwrap_err().path().to_string(), path, "{body}");
        }
    }
}
