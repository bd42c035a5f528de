//! The functions that a request offers, and what becomes of them.

use std::sync::Arc;

use serde_json::Value;

use super::choice::{Demand, Mode, Said};
use super::format::strict;
use super::{Unheeded, Wanted};
use crate::config::AutoTools;
use crate::form::{Choice, Form, Function, Json, MOST_FUNCTIONS, Several, Tools};
use crate::openai::fields::Fields;
use crate::openai::{Error, Policy};

/// The fields that offer functions and say which to call.
#[derive(Clone, Copy, Debug)]
pub struct Lists {
    pub list: &'static str,
    pub choice: &'static str,
}

/// What a request offers to be called.
#[derive(Debug)]
pub struct Offer {
    lists: Lists,
    functions: Vec<Function>,
    /// The first tool that is no function of the caller's.
    other: Option<String>,
}

impl Offer {
    pub fn read(tools: &[Value], lists: &Lists) -> Result<Self, Error> {
        let mut offer = Self {
            lists: *lists,
            functions: Vec::new(),
            other: None,
        };
        for (index, tool) in tools.iter().enumerate() {
            let path = format!("{}[{index}]", lists.list);
            let place = format!("{path}.");
            let Value::Object(tool) = tool else {
                return Err(Error::invalid(&path, format!("{path} must be an object")));
            };
            let tool = Fields::at(tool, &place);
            match tool.text("type")? {
                Some("function") | None => offer.add(tool)?,
                Some(_) => offer.other = offer.other.or(Some(path)),
            }
        }
        Ok(offer)
    }

    fn add(&mut self, tool: Fields<'_>) -> Result<(), Error> {
        let place = format!("{}.", tool.path("function"));
        let function = tool.object("function", &place)?.unwrap_or(tool);
        let path = function.path("name");
        let name = function.text("name")?.unwrap_or_default();
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_of_names) {
            let message =
                format!("{path} must be 1 to {LONGEST_NAME} letters, digits and any of _ - . : /");
            return Err(Error::invalid(path, message));
        }
        if self.functions.iter().any(|other| other.name() == name) {
            let message = format!("{path} is the name of another function too");
            return Err(Error::invalid(path, message));
        }
        if self.functions.len() == MOST_FUNCTIONS {
            let list = self.lists.list;
            let message = format!("{list} must be at most {MOST_FUNCTIONS}");
            return Err(Error::invalid(list, message));
        }
        let path = function.path("parameters");
        let parameters = function.value("parameters");
        self.functions.push(Function::new(
            name,
            function.text("description")?,
            parameters.map(|schema| (schema, path.as_str())),
            strict(function)?,
        )?);
        Ok(())
    }

    /// The form that comes of the offer, of what is demanded, and of the JSON that is wanted where
    /// nothing is called.
    pub fn wanted(
        mut self,
        demand: Demand,
        several: Several,
        json: Option<Json>,
        policy: &Policy,
    ) -> Result<Wanted, Error> {
        self.allow(&demand)?;
        let (choice, unheeded) = match demand.mode {
            Mode::None => (None, Vec::new()),
            Mode::Auto => self.auto(demand.is_said, policy)?,
            Mode::Required => self.required()?,
            Mode::Named(name) => {
                self.functions.retain(|function| function.name() == name);
                (Some(Choice::Named(name)), Vec::new())
            }
        };
        let tools = choice.map(|choice| Tools::new(self.functions, choice, several));
        let form = match (tools, json) {
            (Some(tools), Some(json)) => Some(Form::tools_or_json(tools, json)),
            (Some(tools), None) => Some(Form::tools(tools)),
            (None, Some(json)) => Some(Form::json(json)),
            (None, None) => None,
        };
        Ok(Wanted {
            form: form.map(Arc::new),
            unheeded,
            ..Wanted::default()
        })
    }

    /// Leaves what may be called; what is named must be there.
    fn allow(&mut self, demand: &Demand) -> Result<(), Error> {
        let named = match &demand.mode {
            Mode::Named(name) => std::slice::from_ref(name),
            _ => demand.allowed.as_deref().unwrap_or_default(),
        };
        let is_there = |name: &String| {
            self.functions
                .iter()
                .any(|function| function.name() == name)
        };
        if !named.iter().all(is_there) {
            let Lists { list, choice } = self.lists;
            let message = format!("{choice} names a function that is not in {list}");
            return Err(Error::invalid(choice, message));
        }
        if let Some(allowed) = &demand.allowed {
            self.functions
                .retain(|function| allowed.iter().any(|name| name == function.name()));
        }
        Ok(())
    }

    fn auto(
        &self,
        is_said: Said,
        policy: &Policy,
    ) -> Result<(Option<Choice>, Vec<Unheeded>), Error> {
        let Lists { list, choice } = self.lists;
        if self.functions.is_empty() && self.other.is_none() {
            return Ok((None, Vec::new()));
        }
        match policy.auto_tools {
            AutoTools::Emulate if self.functions.is_empty() => Ok((None, self.others())),
            AutoTools::Emulate => Ok((Some(Choice::Auto), self.others())),
            AutoTools::Ignore => {
                let choice = (is_said == Said::Yes).then_some(choice);
                let unheeded = [Some(list), choice].into_iter().flatten();
                let why = "tools that need not be called are ignored here (tools.auto)";
                Ok((
                    None,
                    unheeded.map(|field| Unheeded { field, why }).collect(),
                ))
            }
            AutoTools::Refuse => Err(Error::unsupported(
                list,
                format!("{list} that need not be called are refused here (tools.auto)"),
            )),
        }
    }

    fn required(&self) -> Result<(Option<Choice>, Vec<Unheeded>), Error> {
        match &self.other {
            _ if !self.functions.is_empty() => Ok((Some(Choice::Required), self.others())),
            Some(path) => Err(Error::unsupported(
                path,
                format!("{path} must be called, and cannot be: only functions can be called here"),
            )),
            // Some clients demand a call, offer nothing, and ask for JSON in words.
            None => Ok((
                None,
                vec![Unheeded {
                    field: self.lists.choice,
                    why: "there is nothing to call",
                }],
            )),
        }
    }

    fn others(&self) -> Vec<Unheeded> {
        let other = self.other.iter();
        other
            .map(|_| Unheeded {
                field: self.lists.list,
                why: "only functions can be called here",
            })
            .collect()
    }
}

/// OpenAI takes 64; functions of other programs have longer names.
const LONGEST_NAME: usize = 128;

fn is_of_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte)
}
