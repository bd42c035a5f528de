//! A request for a response becomes a turn.

use std::fmt;

use super::echo::Echo;
use super::input::{Known, heard};
use super::request::{Input, ResponseRequest};
use super::response::Response;
use crate::conversation::{Base, Keep, Limits, Turn};
use crate::ids::{Handle, ResponseId};
use crate::openai::basis::Basis;
use crate::openai::fields::Fields;
use crate::openai::items::{Ids, Item, Side};
use crate::openai::messages::{Author, Entry, Split, tokens};
use crate::openai::names::{self, LONGEST, is_placeholder};
use crate::openai::params::{self, RESPONSES};
use crate::openai::{Envelope, Error, Policy, Reason, forms};
use crate::run;

/// A request understood: the turn, and how the caller wants to be answered.
#[derive(Clone)]
pub struct Asked {
    pub turn: Turn,
    pub stream: bool,
    /// The caller does not wait: the response is asked for later.
    pub background: bool,
    /// The response can be asked for again.
    pub store: bool,
    /// What the response says again of its request.
    pub echo: Echo,
    entries: Vec<Entry>,
    /// The name that the caller asked for.
    pub model: String,
    /// The fields that change nothing here, for `X-Ignored-Params`.
    pub ignored: Vec<String>,
    pub prompt_tokens: u64,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("model", &self.model)
            .field("stream", &self.stream)
            .field("background", &self.background)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Asked {
    /// What is kept of the turn under this id, if anything is: for [`Turn::keep`].
    pub fn keep(&self, id: ResponseId, created: u64) -> Option<Keep> {
        self.store.then(|| Keep {
            id,
            created,
            model: self.model.clone(),
            background: self.background,
        })
    }

    /// The response that is to be: under this id, if no other request has asked the same before.
    pub fn response(&self, id: ResponseId, created: u64) -> Response {
        let names = &self.turn.names;
        let (previous, named) = match self.turn.base {
            Base::Nothing => (None, None),
            Base::Conversation => (None, names.handle.as_ref().map(Handle::to_string)),
            Base::Response(id) => (Some(id), None),
        };
        Response {
            id,
            created,
            model: self.model.clone(),
            background: self.background,
            previous,
            conversation: named,
            echo: self.echo.clone(),
            prompt_tokens: Some(self.prompt_tokens),
        }
    }

    /// The request's input as the items of the response with this id.
    pub fn input_items(&self, id: ResponseId) -> Vec<Item> {
        let mut ids = Ids::new(id.0, Side::Input);
        self.entries
            .iter()
            .flat_map(|entry| Item::of(entry, &mut ids))
            .collect()
    }
}

impl ResponseRequest {
    /// What the request asks for, or why it cannot be had.
    pub fn into_turn(self, envelope: Envelope, policy: &Policy) -> Result<Asked, Error> {
        let fields = Fields::new(&self.fields);
        let basis = Basis::read(envelope, fields, policy)?;
        let (store, background) = stored(fields)?;
        let echo = Echo::read(fields)?;
        let follows = Follows::read(fields)?;
        let limits = Limits {
            max_tokens: fields.count("max_output_tokens")?,
            ..Limits::default()
        };
        let wanted = forms::of_response(fields, policy)?;
        let ignored = params::ignored(RESPONSES, &self.fields, &wanted.unheeded, policy)?;
        let instructions = echo.instructions.clone();
        let heard = heard(self.input, follows.known())?;
        let entries = if store {
            heard.entries.clone()
        } else {
            Vec::new()
        };
        let referred = heard.base;
        let split = Split::of(led(instructions, heard.entries), "input")?;
        let base = match (referred, follows) {
            (Some(id), _) => Base::Response(id),
            (None, Follows::Base(base)) => base,
            (None, Follows::Foreign(id)) if split.history.is_empty() => {
                return Err(unknown(&id));
            }
            (None, Follows::Foreign(_)) => Base::Nothing,
        };
        let prompt_tokens = split.tokens(wanted.form.as_deref());
        let turn = Turn {
            base,
            limits,
            form: wanted.form,
            ..basis.turn(split)
        };
        Ok(Asked {
            turn,
            stream: basis.stream,
            background,
            store,
            echo,
            entries,
            model: basis.model,
            ignored,
            prompt_tokens,
        })
    }

    /// What the request's tokens are counted as. It need not ask anything.
    pub fn into_tokens(self, policy: &Policy) -> Result<u64, Error> {
        let fields = Fields::new(&self.fields);
        let instructions = fields.text("instructions")?.map(str::to_owned);
        let known = Follows::read(fields)?.known();
        let input = self.input.unwrap_or(Input::Items(Vec::new()));
        let entries = heard(Some(input), known)?.entries;
        let form = forms::of_response(fields, policy)?.form;
        Ok(tokens(led(instructions, entries), form.as_deref()))
    }
}

/// Whether the response is kept, and whether its caller asks for it later.
fn stored(fields: Fields<'_>) -> Result<(bool, bool), Error> {
    let store = fields.flag("store")?.unwrap_or(true);
    let background = fields.flag("background")?.unwrap_or(false);
    if background && !store {
        let message =
            "background needs store: a response that is not kept cannot be asked for later";
        return Err(Error::invalid("background", message));
    }
    Ok((store, background))
}

/// What the input follows on, as the request's fields say it.
enum Follows {
    Base(Base),
    /// A response that cannot be one of ours.
    Foreign(String),
}

impl Follows {
    fn read(fields: Fields<'_>) -> Result<Self, Error> {
        let previous = fields.text("previous_response_id")?;
        let previous = previous.filter(|id| !is_placeholder(id));
        let conversation = names::conversation(fields)?;
        match (previous, conversation) {
            (None, None) => Ok(Self::Base(Base::Nothing)),
            (None, Some(_)) => Ok(Self::Base(Base::Conversation)),
            (Some(_), Some(_)) => Err(Error::invalid(
                "previous_response_id",
                "previous_response_id and conversation exclude each other: name one of them",
            )),
            (Some(id), None) if id.len() > LONGEST => Err(Error::invalid(
                "previous_response_id",
                format!("previous_response_id must have at most {LONGEST} bytes"),
            )),
            (Some(id), None) => Ok(match ResponseId::parse(id) {
                Some(id) => Self::Base(Base::Response(id)),
                None => Self::Foreign(id.to_owned()),
            }),
        }
    }

    fn known(&self) -> Known {
        match self {
            Self::Base(Base::Conversation | Base::Response(_)) => Known::All,
            Self::Base(Base::Nothing) | Self::Foreign(_) => Known::Ids,
        }
    }
}

/// Told alike, whether the id is nobody's or another tenant's.
fn unknown(id: &str) -> Error {
    Error {
        reason: Reason::UnknownResponse,
        message: run::Error::NoResponse(id.to_owned()).to_string(),
        param: None,
    }
}

/// The request's own instructions stand before all that its input says.
fn led(instructions: Option<String>, entries: Vec<Entry>) -> Vec<Entry> {
    let instructions = instructions.map(|text| Entry::Instructions(Author::Developer, text));
    instructions.into_iter().chain(entries).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    const RESPONSE: &str = "resp_01010101010101010101010101010101";

    /// A plain request with these fields on top.
    fn request(fields: &Value) -> ResponseRequest {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!("chaturdata"));
        body.insert("input".to_owned(), json!("Hi"));
        body.extend(fields.as_object().cloned().unwrap());
        serde_json::from_value(Value::Object(body)).unwrap()
    }

    fn asked(fields: &Value) -> Result<Asked, Error> {
        request(fields).into_turn(Envelope::bare(), &Policy::default())
    }

    fn history() -> Value {
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}])
    }

    #[test]
    fn the_request_says_what_its_input_follows_on() {
        let response = Base::Response(ResponseId([1; 16]));
        for (fields, base, handle) in [
            (json!({}), Base::Nothing, None),
            (
                json!({"previous_response_id": "", "conversation": null}),
                Base::Nothing,
                None,
            ),
            (json!({"conversation_id": "c"}), Base::Nothing, Some("c")),
            (json!({"conversation": "c"}), Base::Conversation, Some("c")),
            (
                json!({"conversation": {"id": "c"}, "previous_response_id": null}),
                Base::Conversation,
                Some("c"),
            ),
            (
                json!({"previous_response_id": RESPONSE}),
                response.clone(),
                None,
            ),
            (
                json!({"previous_response_id": "resp_1", "input": history()}),
                Base::Nothing,
                None,
            ),
            (
                json!({"input": [{"id": "msg_0101010101010101010101010101010180000000"},
                    {"role": "user", "content": "c"}]}),
                response,
                None,
            ),
        ] {
            let turn = asked(&fields).unwrap().turn;

            assert_eq!(turn.base, base, "{fields}");
            let named = turn.names.handle.map(|handle| handle.to_string());
            assert_eq!(named.as_deref(), handle, "{fields}");
        }
    }

    #[test]
    fn a_response_of_nobody_is_told_as_one_that_is_unknown() {
        let error = asked(&json!({"previous_response_id": "resp_1"})).unwrap_err();

        assert_eq!(error.reason, Reason::UnknownResponse);
        assert_eq!(error.message, "there is no response resp_1 here");
        assert_eq!(error.param, None);
    }

    #[test]
    fn instructions_lead_those_of_the_input() {
        let turn = asked(&json!({"instructions": "One.", "input": [
            {"role": "developer", "content": "Two."}, {"role": "user", "content": "a"}]}));

        let turn = turn.unwrap().turn;
        assert_eq!(turn.instructions.as_deref(), Some("One.\n\nTwo."));
        assert_eq!((turn.history.len(), turn.prompt.len()), (0, 1));
    }

    #[test]
    fn a_response_is_kept_unless_it_says_otherwise() {
        for (fields, store, background) in [
            (json!({}), true, false),
            (json!({"store": null, "background": null}), true, false),
            (json!({"background": true}), true, true),
            (json!({"store": false}), false, false),
        ] {
            let asked = asked(&fields).unwrap();

            let kept = asked.keep(ResponseId([1; 16]), 7);

            assert_eq!(kept.is_some(), store, "{fields}");
            assert_eq!(
                kept.is_some_and(|kept| kept.background),
                background,
                "{fields}"
            );
            assert_eq!(asked.background, background, "{fields}");
            assert_eq!(asked.input_items(ResponseId([1; 16])).is_empty(), !store);
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_by_its_field() {
        let long = "a".repeat(513);
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!("a"))).collect();
        for (fields, param) in [
            (json!({"model": null}), "model"),
            (json!({"input": null}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": " "}), "input"),
            (
                json!({"input": [{"role": "assistant", "content": "a"}]}),
                "input",
            ),
            (json!({"instructions": ["a"]}), "instructions"),
            (json!({"store": "no"}), "store"),
            (json!({"store": false, "background": true}), "background"),
            (
                json!({"previous_response_id": RESPONSE, "conversation": "c"}),
                "previous_response_id",
            ),
            (
                json!({"previous_response_id": long}),
                "previous_response_id",
            ),
            (json!({"conversation": {}}), "conversation.id"),
            (json!({"metadata": []}), "metadata"),
            (json!({"metadata": {"a": 1}}), "metadata.a"),
            (json!({"metadata": {"a": long}}), "metadata.a"),
            (json!({ "metadata": many }), "metadata"),
            (json!({"metadata": {"a".repeat(65): "a"}}), "metadata"),
            (json!({"max_output_tokens": 0}), "max_output_tokens"),
            (json!({"max_tool_calls": 0.5}), "max_tool_calls"),
            (json!({"truncation": "on"}), "truncation"),
            (json!({"text": "plain"}), "text"),
            (json!({"tools": {}}), "tools"),
            (json!({"parallel_tool_calls": 1}), "parallel_tool_calls"),
        ] {
            let error = asked(&fields).unwrap_err();

            assert_eq!(error.param.as_deref(), Some(param), "{fields}");
            assert_eq!(error.reason, Reason::InvalidValue, "{fields}");
        }
    }

    #[test]
    fn tokens_are_counted_though_nothing_is_asked() {
        for (fields, tokens) in [
            (json!({"input": "Hi", "model": null}), 8),
            (
                json!({"input": [{"role": "assistant", "content": "Hi"}]}),
                8,
            ),
            (json!({"input": null}), 3),
            (json!({"input": "Hi", "instructions": "Hi"}), 13),
        ] {
            let counted = request(&fields).into_tokens(&Policy::default());
            assert_eq!(counted, Ok(tokens), "{fields}");
        }
    }
}
