//! What every request says, whatever its endpoint.

use std::time::Duration;

use serde_json::Value;

use super::fields::Fields;
use super::messages::Split;
use super::names::names;
use super::{Envelope, Error, Policy, models};
use crate::conversation::{Base, Limits, Names, Repeat, Turn};

/// A request has at most this many stop sequences, as OpenAI has it.
pub const MOST_STOPS: usize = 4;

/// A request has at most this many answers.
pub const MOST_CHOICES: usize = 8;

/// What every request says, whatever its endpoint.
#[derive(Clone, Debug)]
pub struct Basis {
    envelope: Envelope,
    /// The name that the caller asked for.
    pub model: String,
    pub stream: bool,
    pub names: Names,
}

impl Basis {
    pub fn read(envelope: Envelope, fields: Fields<'_>, policy: &Policy) -> Result<Self, Error> {
        Ok(Self {
            model: model(fields, policy)?.to_owned(),
            stream: fields.flag("stream")?.unwrap_or(false),
            names: names(&envelope, fields)?,
            envelope,
        })
    }

    /// Whether it asks for a stream that ends with a chunk that tells the usage.
    pub fn include_usage(&self, fields: Fields<'_>) -> Result<bool, Error> {
        let options = fields.object("stream_options", "stream_options.")?;
        let wanted = options.map(|options| options.flag("include_usage"));
        Ok(wanted.transpose()?.flatten().unwrap_or(false) && self.stream)
    }

    /// A turn that asks for free text and nothing else; who asks for more says so on top.
    pub fn turn(&self, split: Split) -> Turn {
        let envelope = &self.envelope;
        Turn {
            caller: envelope.caller.clone(),
            model: self.model.clone(),
            instructions: split.instructions,
            base: Base::Nothing,
            history: split.history,
            prompt: split.prompt,
            names: self.names.clone(),
            limits: Limits::default(),
            form: None,
            keep: None,
            choice: 0,
            repeat: Repeat {
                body: envelope.body,
                idempotency_key: envelope.idempotency_key.clone(),
                marked: envelope.marked,
            },
            deadline: self.deadline(),
        }
    }

    /// A caller that waits for the whole answer is told in time, a second before it gives up by itself.
    fn deadline(&self) -> Duration {
        let Envelope {
            patience, deadline, ..
        } = self.envelope;
        match patience {
            Some(patience) if !self.stream => {
                deadline.min(patience.saturating_sub(Duration::from_secs(1)))
            }
            _ => deadline,
        }
    }
}

fn model<'a>(fields: Fields<'a>, policy: &Policy) -> Result<&'a str, Error> {
    let model = fields.text("model")?.unwrap_or_default();
    if model.is_empty() {
        let message = match policy.aliases.first() {
            Some(alias) => format!("model is missing: add \"model\": \"{alias}\" to the request"),
            None => "model is missing: add any name".to_owned(),
        };
        return Err(Error::invalid("model", message));
    }
    models::check(policy, model)?;
    Ok(model)
}

/// The stop sequences, however they are written.
pub fn stop(fields: Fields<'_>) -> Result<Vec<String>, Error> {
    let wanted = || {
        let message =
            format!("stop must be a string or an array of up to {MOST_STOPS}, none of them empty");
        Error::invalid("stop", message)
    };
    let stops: Vec<&Value> = match fields.value("stop") {
        None => Vec::new(),
        Some(Value::Array(stops)) => stops.iter().collect(),
        Some(stop) => vec![stop],
    };
    if stops.len() > MOST_STOPS {
        return Err(wanted());
    }
    stops
        .into_iter()
        .map(|stop| match stop.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(wanted()),
        })
        .collect()
}

/// How many answers are wanted: `n`.
pub fn choices(fields: Fields<'_>) -> Result<usize, Error> {
    let choices = fields.count("n")?.unwrap_or(1);
    match usize::try_from(choices) {
        Ok(choices) if choices <= MOST_CHOICES => Ok(choices),
        _ => {
            let message = format!("n must be from 1 to {MOST_CHOICES}");
            Err(Error::invalid("n", message))
        }
    }
}
