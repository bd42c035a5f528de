//! A request for a response becomes a turn.

use std::fmt;

use super::echo::Echo;
use super::request::{Input, ResponseRequest};
use crate::conversation::{Base, Keep, Limits, Role, Turn};
use crate::ids::ResponseId;
use crate::openai::basis::Basis;
use crate::openai::content::Place;
use crate::openai::fields::Fields;
use crate::openai::items::{Heard, Ids, Item, ItemId, Side, push};
use crate::openai::messages::{Author, Entry, Split, said};
use crate::openai::names::{self, LONGEST, is_placeholder};
use crate::openai::params::{self, RESPONSES};
use crate::openai::{Envelope, Error, Policy, Reason};
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
        let ignored = params::ignored(RESPONSES, &self.fields, policy)?;
        let instructions = echo.instructions.clone();
        let heard = heard(self.input, follows.known())?;
        let entries = store.then(|| heard.entries.clone()).unwrap_or_default();
        let referred = heard.base;
        let split = split(instructions, heard.entries)?;
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
            form: None,
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

/// The input, read.
struct HeardInput {
    entries: Vec<Entry>,
    /// The response whose output the input names last: what stands before is what it followed on.
    base: Option<ResponseId>,
}

fn heard(input: Option<Input>, known: Known) -> Result<HeardInput, Error> {
    let mut heard = HeardInput {
        entries: Vec::new(),
        base: None,
    };
    let items = match input {
        None => return Err(Error::invalid("input", "input is missing")),
        Some(Input::Text(text)) => {
            heard.entries.push(Entry::Said(said(Role::User, text)));
            return Ok(heard);
        }
        Some(Input::Items(items)) => items,
    };
    let mut unfounded = None;
    for (index, item) in items.into_iter().enumerate() {
        let list = "input";
        let place = Place { list, index };
        match item.heard(place)? {
            Heard::Nothing => {}
            Heard::Entry(entry) => push(&mut heard.entries, entry),
            Heard::Reference(id) => match ItemId::parse(&id) {
                None => return Err(unheard_of(place)),
                Some(_) if known == Known::All => {}
                Some(id) if id.side == Side::Output => {
                    let is_instruction = |entry: &Entry| matches!(entry, Entry::Instructions(..));
                    heard.entries.retain(is_instruction);
                    heard.base = Some(ResponseId(id.origin));
                    unfounded = None;
                }
                // The output behind it may say where it belongs.
                Some(_) => unfounded = unfounded.or(Some(place)),
            },
        }
    }
    unfounded.map_or(Ok(heard), |place| Err(unheard_of(place)))
}

/// What is known of the items that an input only names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The thread holds them.
    All,
    /// As much as their ids say.
    Ids,
}

fn unheard_of(place: Place) -> Error {
    let path = place.of("id");
    let message = format!("{path} names an item that is not known here");
    Error::invalid(path, message)
}

fn split(instructions: Option<String>, entries: Vec<Entry>) -> Result<Split, Error> {
    let instructions = instructions.map(|text| Entry::Instructions(Author::Developer, text));
    Split::of(instructions.into_iter().chain(entries).collect(), "input")
}

/// How a response that is there is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retrieval {
    pub stream: bool,
    /// The number of the last event that the caller has.
    pub starting_after: Option<u64>,
}

impl Retrieval {
    /// Reads a query; what it says of other things is passed over.
    pub fn read(query: &[(String, String)]) -> Result<Self, Error> {
        let mut retrieval = Self::default();
        for (name, value) in query {
            match (name.as_str(), value.as_str()) {
                ("stream", "true") => retrieval.stream = true,
                ("stream", "false") => retrieval.stream = false,
                ("stream", _) => {
                    return Err(Error::invalid("stream", "stream must be true or false"));
                }
                ("starting_after", number) => {
                    let number = number.parse().map_err(|_| {
                        let message = "starting_after must be the number of an event";
                        Error::invalid("starting_after", message)
                    })?;
                    retrieval.starting_after = Some(number);
                }
                _ => {}
            }
        }
        if retrieval.starting_after.is_some() && !retrieval.stream {
            let message = "starting_after is for streams: add stream=true";
            return Err(Error::invalid("starting_after", message));
        }
        Ok(retrieval)
    }
}
