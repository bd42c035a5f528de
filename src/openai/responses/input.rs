//! What a request asks and tells: text, items, and items that are only named.

use super::request::Input;
use crate::conversation::Role;
use crate::ids::ResponseId;
use crate::openai::Error;
use crate::openai::content::Place;
use crate::openai::items::{self, ItemId, Side, push};
use crate::openai::messages::{Entry, said};

/// The input, read.
pub struct Heard {
    pub entries: Vec<Entry>,
    /// The response whose output the input names last: what stands before is what it followed on.
    pub base: Option<ResponseId>,
}

/// Reads the items, and says which of them cannot be used.
pub fn heard(input: Option<Input>, known: Known) -> Result<Heard, Error> {
    let mut heard = Heard {
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
            items::Heard::Nothing => {}
            items::Heard::Entry(entry) => push(&mut heard.entries, entry),
            items::Heard::Reference(id) => match ItemId::parse(&id) {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
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
