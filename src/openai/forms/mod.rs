//! What a request says of the form of its answer: JSON, calls of functions. The endpoints say it in
//! shapes of their own, and mean the same.

mod choice;
mod format;
mod tools;

use std::sync::Arc;

use super::fields::Fields;
use super::{Error, Policy};
use crate::form::{Form, Several};

use choice::Demand;
use tools::{Lists, Offer};

/// The form that a request asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub form: Option<Arc<Form>>,
    /// Fields that change nothing here, each with the reason.
    pub unheeded: Vec<Unheeded>,
    pub calls: Calls,
}

/// A field that changes nothing, or not all that it says, as things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheeded {
    pub field: &'static str,
    pub why: &'static str,
}

/// How a chat completion tells of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// As `tool_calls`.
    #[default]
    Tools,
    /// As the one `function_call` that there was before.
    Function,
}

/// The form of a chat completion.
pub fn of_chat(fields: Fields<'_>, policy: &Policy) -> Result<Wanted, Error> {
    let format = fields.object("response_format", "response_format.")?;
    let json = format.map_or(Ok(None), format::json)?;
    let tools = fields.array("tools")?.unwrap_or_default();
    let functions = fields.array("functions")?.unwrap_or_default();
    if tools.is_empty() && !functions.is_empty() {
        let offer = Offer::read(functions, &FUNCTIONS)?;
        let demand = Demand::read(fields, FUNCTIONS.choice)?;
        return Ok(Wanted {
            calls: Calls::Function,
            ..offer.wanted(demand, Several::Refused, json, policy)?
        });
    }
    let unheeded = (!functions.is_empty()).then_some(Unheeded {
        field: "functions",
        why: "tools stand beside them",
    });
    let mut wanted = of_tools(fields, tools, json, policy)?;
    wanted.unheeded.extend(unheeded);
    Ok(wanted)
}

/// The form of a response.
pub fn of_response(fields: Fields<'_>, policy: &Policy) -> Result<Wanted, Error> {
    let text = fields.object("text", "text.")?;
    let verbosity = text.and_then(|text| text.value("verbosity"));
    let unheeded = verbosity
        .filter(|verbosity| *verbosity != "medium")
        .map(|_| Unheeded {
            field: "text",
            why: "the upstream has no verbosity",
        });
    let format = match text {
        Some(text) => text.object("format", "text.format.")?,
        None => None,
    };
    let json = format.map_or(Ok(None), format::json)?;
    let tools = fields.array("tools")?.unwrap_or_default();
    let mut wanted = of_tools(fields, tools, json, policy)?;
    wanted.unheeded.extend(unheeded);
    Ok(wanted)
}

fn of_tools(
    fields: Fields<'_>,
    tools: &[serde_json::Value],
    json: Option<crate::form::Json>,
    policy: &Policy,
) -> Result<Wanted, Error> {
    let offer = Offer::read(tools, &TOOLS)?;
    let demand = Demand::read(fields, TOOLS.choice)?;
    let several = match fields.flag("parallel_tool_calls")? {
        Some(false) => Several::Refused,
        Some(true) | None => Several::Allowed,
    };
    offer.wanted(demand, several, json, policy)
}

const TOOLS: Lists = Lists {
    list: "tools",
    choice: "tool_choice",
};

/// What they were before there were other tools than functions.
const FUNCTIONS: Lists = Lists {
    list: "functions",
    choice: "function_call",
};

#[cfg(test)]
mod tests;
