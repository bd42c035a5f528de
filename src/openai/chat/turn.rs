//! A request for a chat completion becomes a turn.

use super::messages::split;
use super::request::ChatRequest;
use crate::conversation::{Limits, Turn};
use crate::openai::basis::{self, Basis};
use crate::openai::fields::Fields;
use crate::openai::forms::{self, Calls};
use crate::openai::params::{self, CHAT};
use crate::openai::{Envelope, Error, Policy};

/// A request understood: the turn, and how the caller wants to be answered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub turn: Turn,
    /// How many answers are wanted.
    pub choices: usize,
    /// How calls are told.
    pub calls: Calls,
    pub stream: bool,
    /// Whether a stream ends with a chunk that tells the usage.
    pub include_usage: bool,
    /// The name that the caller asked for.
    pub model: String,
    /// The fields that change nothing here, for `X-Ignored-Params`.
    pub ignored: Vec<String>,
    pub prompt_tokens: u64,
}

impl ChatRequest {
    /// What the request asks for, or why it cannot be had.
    pub fn into_turn(self, envelope: Envelope, policy: &Policy) -> Result<Asked, Error> {
        let fields = Fields::new(&self.fields);
        let basis = Basis::read(envelope, fields, policy)?;
        let include_usage = basis.include_usage(fields)?;
        let limits = limits(fields)?;
        let choices = basis::choices(fields)?;
        let wanted = forms::of_chat(fields, policy)?;
        let ignored = params::ignored(CHAT, &self.fields, &wanted.unheeded, policy)?;
        let split = split(self.messages, self.known.as_ref())?;
        let prompt_tokens = split.tokens(wanted.form.as_deref());
        let stream = basis.stream;
        let turn = Turn {
            limits,
            form: wanted.form,
            ..basis.turn(split)
        };
        Ok(Asked {
            model: turn.model.clone(),
            turn,
            choices,
            calls: wanted.calls,
            stream,
            include_usage,
            ignored,
            prompt_tokens,
        })
    }
}

fn limits(fields: Fields<'_>) -> Result<Limits, Error> {
    let counts = [
        fields.count("max_tokens")?,
        fields.count("max_completion_tokens")?,
    ];
    Ok(Limits {
        stop: basis::stop(fields)?,
        max_tokens: counts.into_iter().flatten().min(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::openai::Reason;

    fn policy() -> Policy {
        Policy {
            aliases: vec!["chaturdata".to_owned()],
            ..Policy::default()
        }
    }

    /// A plain request with these fields on top.
    fn request(fields: &Value) -> ChatRequest {
        let mut body: Map<String, Value> = serde_json::from_value(json!({
            "model": "chaturdata",
            "messages": [{"role": "user", "content": "Hi"}],
        }))
        .unwrap();
        body.extend(fields.as_object().cloned().unwrap());
        serde_json::from_value(Value::Object(body)).unwrap()
    }

    fn asked(fields: &Value) -> Asked {
        request(fields)
            .into_turn(Envelope::bare(), &policy())
            .unwrap()
    }

    #[test]
    fn limits_are_read_however_they_are_written() {
        for (fields, stop, max_tokens) in [
            (json!({}), vec![], None),
            (json!({"stop": null, "max_tokens": null}), vec![], None),
            (json!({"stop": "a"}), vec!["a"], None),
            (json!({"stop": []}), vec![], None),
            (
                json!({"stop": ["a", "b", "c", "d"]}),
                vec!["a", "b", "c", "d"],
                None,
            ),
            (json!({"max_tokens": 100.0}), vec![], Some(100)),
            (
                json!({"max_tokens": 9, "max_completion_tokens": 5}),
                vec![],
                Some(5),
            ),
            (
                json!({"max_tokens": 5, "max_completion_tokens": 9}),
                vec![],
                Some(5),
            ),
        ] {
            let limits = asked(&fields).turn.limits;

            assert_eq!(limits.stop, stop, "{fields}");
            assert_eq!(limits.max_tokens, max_tokens, "{fields}");
        }
    }

    #[test]
    fn usage_is_told_in_streams_that_ask_for_it() {
        for (fields, stream, include_usage) in [
            (json!({}), false, false),
            (json!({"stream": true}), true, false),
            (json!({"stream": true, "stream_options": {}}), true, false),
            (
                json!({"stream": true, "stream_options": {"include_usage": true}}),
                true,
                true,
            ),
            (
                json!({"stream": false, "stream_options": {"include_usage": true}}),
                false,
                false,
            ),
        ] {
            let asked = asked(&fields);

            assert_eq!(
                (asked.stream, asked.include_usage),
                (stream, include_usage),
                "{fields}"
            );
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_by_its_field() {
        for (fields, param) in [
            (json!({"model": null}), "model"),
            (json!({"model": ""}), "model"),
            (json!({"model": 4}), "model"),
            (json!({"messages": []}), "messages"),
            (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
            (json!({"stop": ""}), "stop"),
            (json!({"stop": ["a", 1]}), "stop"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (
                json!({"max_completion_tokens": -1}),
                "max_completion_tokens",
            ),
            (json!({"max_tokens": "5"}), "max_tokens"),
            (json!({"n": 0}), "n"),
            (json!({"n": "two"}), "n"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"stream_options": true}), "stream_options"),
            (
                json!({"stream_options": {"include_usage": 1}}),
                "stream_options.include_usage",
            ),
            (json!({"user": ["a"]}), "user"),
            (json!({"conversation": 1.5}), "conversation"),
        ] {
            let refused = request(&fields).into_turn(Envelope::bare(), &policy());

            let error = refused.unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{fields}");
            assert_eq!(error.reason, Reason::InvalidValue, "{fields}");
        }
    }

    #[test]
    fn a_caller_without_a_model_is_told_one() {
        let refused = request(&json!({"model": null})).into_turn(Envelope::bare(), &policy());

        assert_eq!(
            refused.unwrap_err().message,
            r#"model is missing: add "model": "chaturdata" to the request"#
        );
    }

    #[test]
    fn a_caller_of_little_patience_is_answered_before_it_gives_up() {
        let seconds = Duration::from_secs;
        for (stream, patience, deadline) in [
            (false, None, seconds(590)),
            (false, Some(seconds(600)), seconds(590)),
            (false, Some(seconds(20)), seconds(19)),
            (true, Some(seconds(20)), seconds(590)),
        ] {
            let envelope = Envelope {
                patience,
                ..Envelope::bare()
            };

            let asked = request(&json!({"stream": stream})).into_turn(envelope, &policy());

            assert_eq!(
                asked.unwrap().turn.deadline,
                deadline,
                "{stream} {patience:?}"
            );
        }
    }

    #[test]
    fn the_turn_says_what_the_head_and_the_body_say() {
        let envelope = Envelope {
            handle: Some("new".to_owned()),
            narrow: Some("{{CHAT}}".to_owned()),
            users: vec!["h".to_owned()],
            side_call: Some("title".to_owned()),
            idempotency_key: Some("k".to_owned()),
            marked: true,
            body: [7; 32],
            ..Envelope::bare()
        };

        let fields = json!({"model": "gpt-4o", "user": "u", "metadata": {"chat_id": "c"}});
        let asked = request(&fields).into_turn(envelope, &policy()).unwrap();

        let names = asked.turn.names;
        assert_eq!(names.handle.unwrap().to_string(), "c");
        assert_eq!(names.narrow, None);
        assert_eq!(names.users, ["user=u", "header=h"]);
        assert_eq!(names.side_call.as_deref(), Some("title"));
        assert_eq!(asked.turn.repeat.idempotency_key.as_deref(), Some("k"));
        assert!(asked.turn.repeat.marked);
        assert_eq!(asked.turn.repeat.body, [7; 32]);
        assert_eq!(
            (asked.model.as_str(), asked.turn.model.as_str()),
            ("gpt-4o", "gpt-4o")
        );
        assert!(asked.ignored.is_empty());
        assert_eq!(asked.prompt_tokens, 8);
    }
}
