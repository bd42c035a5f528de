//! What a request says, taken apart: instructions, what was said before, what is asked.

use std::convert::Infallible;

use super::{Error, usage};
use crate::conversation::{Message, Role};
use crate::form::Form;

/// A message of a request, by what it is to a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Instructions(Author, String),
    Said(Message),
}

/// Who gives instructions. It makes no difference to the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    System,
    Developer,
}

impl Author {
    pub fn of(role: &str) -> Option<Self> {
        match role {
            "system" => Some(Self::System),
            "developer" => Some(Self::Developer),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
        }
    }
}

/// The messages of a request by what they are to a turn.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "it would show what callers say"
)]
pub struct Split {
    /// System and developer messages, wherever they stood, joined by a blank line.
    pub instructions: Option<String>,
    pub history: Vec<Message>,
    /// The user and tool messages at the end; their text is not empty.
    pub prompt: Vec<Message>,
}

impl Split {
    /// `list` is the field that holds the messages, for errors.
    pub fn of(entries: Vec<Entry>, list: &str) -> Result<Self, Error> {
        Self::of_each(entries.into_iter().map(Ok), list)
    }

    /// As above, of entries that come one by one, to the first that cannot be used.
    pub fn of_each(
        entries: impl ExactSizeIterator<Item = Result<Entry, Error>>,
        list: &str,
    ) -> Result<Self, Error> {
        let (instructions, mut said) = apart(entries)?;
        let prompt = match said.iter().rposition(|m| m.role == Role::Assistant) {
            Some(last) => said.split_off(last + 1),
            None => std::mem::take(&mut said),
        };
        if prompt.is_empty() {
            return Err(Error::invalid(
                list,
                format!("{list} must end with a user or tool message: there is nothing to answer"),
            ));
        }
        // Each is looked at, so that none has to be read later, where others wait.
        let asking = prompt
            .iter()
            .filter(|message| !message.text.trim().is_empty());
        if asking.count() == 0 {
            return Err(Error::invalid(
                list,
                "the last user or tool message is empty: there is nothing to answer",
            ));
        }
        Ok(Self {
            instructions,
            history: said,
            prompt,
        })
    }

    /// The tokens of all that the request says, and of the form that it asks for.
    pub fn tokens(&self, form: Option<&Form>) -> u64 {
        let messages = self.history.iter().chain(&self.prompt);
        usage::prompt_tokens(self.instructions.as_deref(), messages) + usage::form_tokens(form)
    }
}

/// Takes the instructions out of all that was said.
fn apart<E>(
    entries: impl ExactSizeIterator<Item = Result<Entry, E>>,
) -> Result<(Option<String>, Vec<Message>), E> {
    let mut instructions = Vec::new();
    let mut messages = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry? {
            Entry::Instructions(_, text) if text.trim().is_empty() => {}
            Entry::Instructions(_, text) => instructions.push(text),
            Entry::Said(message) => messages.push(message),
        }
    }
    let instructions = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
    Ok((instructions, messages))
}

/// The tokens of all that is said, be there something to answer or not.
pub fn tokens(entries: Vec<Entry>, form: Option<&Form>) -> u64 {
    let Ok((instructions, messages)) = apart(entries.into_iter().map(Ok::<_, Infallible>));
    usage::prompt_tokens(instructions.as_deref(), messages.iter()) + usage::form_tokens(form)
}
