//! A request for a response becomes a turn.

use std::fmt;

use super::echo::Echo;
use super::input::{Known, heard};
use super::request::{Input, ResponseRequest};
use crate::conversation::{Base, Keep, Limits, Turn};
use crate::ids::ResponseId;
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
        let entries = store.then(|| heard.entries.clone()).unwrap_or_default();
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
        let prompt_tokens = split.tokens();
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
    pub fn into_tokens(self) -> Result<u64, Error> {
        let fields = Fields::new(&self.fields);
        let instructions = fields.text("instructions")?.map(str::to_owned);
        let known = Follows::read(fields)?.known();
        let input = self.input.unwrap_or(Input::Items(Vec::new()));
        let entries = heard(Some(input), known)?.entries;
        Ok(tokens(led(instructions, entries)))
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
