//! `tool_choice` and `function_call`: whether, and what, is to be called.

use serde_json::Value;

use crate::openai::Error;
use crate::openai::fields::Fields;

/// What a request demands of the tools that it offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub mode: Mode,
    /// The functions that may be called; `None` for all.
    pub allowed: Option<Vec<String>>,
    /// The field was there.
    pub is_said: Said,
}

/// Whether something is to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    None,
    #[default]
    Auto,
    Required,
    Named(String),
}

/// Whether a field was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Said {
    #[default]
    No,
    Yes,
}

impl Demand {
    pub fn read(fields: Fields<'_>, name: &str) -> Result<Self, Error> {
        let Some(value) = fields.value(name) else {
            return Ok(Self::default());
        };
        let (mode, allowed) = match value {
            Value::String(mode) => (plain(mode).ok_or_else(|| unknown(name))?, None),
            Value::Object(_) => {
                let place = format!("{name}.");
                let choice = fields.object(name, &place)?.ok_or_else(|| unknown(name))?;
                object(choice, name)?
            }
            _ => return Err(unknown(name)),
        };
        Ok(Self {
            mode,
            allowed,
            is_said: Said::Yes,
        })
    }
}

fn plain(mode: &str) -> Option<Mode> {
    match mode {
        "none" => Some(Mode::None),
        "auto" => Some(Mode::Auto),
        "required" => Some(Mode::Required),
        _ => None,
    }
}

fn object(choice: Fields<'_>, name: &str) -> Result<(Mode, Option<Vec<String>>), Error> {
    match choice.text("type")? {
        // What was a function before there were types.
        Some("function") | None => {
            let function = named(choice)?.ok_or_else(|| unknown(name))?;
            Ok((Mode::Named(function), None))
        }
        Some("allowed_tools") => allowed(choice, name),
        Some("auto" | "none" | "required") => Err(unknown(name)),
        Some(kind) => {
            let kind: String = kind
                .chars()
                .filter(char::is_ascii_graphic)
                .take(64)
                .collect();
            let message =
                format!("{name} demands a tool of type {kind}: only functions can be called here");
            Err(Error::unsupported(name, message))
        }
    }
}

/// The function's name: in `function` in a chat, flat in a response.
fn named(choice: Fields<'_>) -> Result<Option<String>, Error> {
    let place = format!("{}.", choice.path("function"));
    let name = match choice.object("function", &place)? {
        Some(function) => function.text("name")?,
        None => choice.text("name")?,
    };
    Ok(name.map(str::to_owned))
}

fn allowed(choice: Fields<'_>, name: &str) -> Result<(Mode, Option<Vec<String>>), Error> {
    let place = format!("{}.", choice.path("allowed_tools"));
    let nested = choice.object("allowed_tools", &place)?;
    let choice = nested.unwrap_or(choice);
    let mode = match choice.text("mode")? {
        Some("auto") | None => Mode::Auto,
        Some("required") => Mode::Required,
        Some(_) => return Err(unknown(name)),
    };
    let path = choice.path("tools");
    let mut names = Vec::new();
    for (index, tool) in choice
        .array("tools")?
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let place = format!("{path}[{index}].");
        let Value::Object(tool) = tool else {
            return Err(unknown(name));
        };
        let tool = Fields::at(tool, &place);
        if matches!(tool.text("type")?, Some("function") | None) {
            names.extend(named(tool)?);
        }
    }
    Ok((mode, Some(names)))
}

fn unknown(name: &str) -> Error {
    let message =
        format!("{name} must be none, auto, required, or an object that names a function");
    Error::invalid(name, message)
}
