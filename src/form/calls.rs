//! Calls as an answer makes them: one JSON object and nothing else.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Call, find};

/// What an answer that calls looks like.
pub const SHAPE: &str = r#"{"tool_calls":[{"name":"NAME","arguments":{}}]}"#;

/// What an answer is, as far as that can be told without knowing the functions.
#[derive(Debug)]
pub enum Shape<'a> {
    Calls(Vec<Called<'a>>),
    /// It was meant to call, and does not: what is wrong with it.
    Alike(String),
    Other,
}

/// One call as it was written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called<'a> {
    pub name: String,
    #[serde(borrow)]
    pub arguments: &'a RawValue,
}

impl Called<'_> {
    pub fn call(&self) -> Call {
        Call {
            name: self.name.clone(),
            arguments: self.arguments.get().to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Calling<'a> {
    #[serde(borrow)]
    tool_calls: Vec<Called<'a>>,
}

/// Looks at the whole of an answer.
pub fn shape(answer: &str) -> Shape<'_> {
    let bare = find::unfenced(answer);
    match serde_json::from_str::<Calling<'_>>(bare) {
        Ok(Calling { tool_calls }) if tool_calls.is_empty() => {
            Shape::Alike("has an empty list of tool_calls".to_owned())
        }
        Ok(Calling { tool_calls }) => Shape::Calls(tool_calls),
        Err(_) if !answer.contains("tool_calls") => Shape::Other,
        Err(error) => {
            let mut found = find::values(answer).into_iter();
            if !found.any(|found| found.value.get("tool_calls").is_some()) {
                return Shape::Other;
            }
            match serde_json::from_str::<Value>(bare) {
                Ok(_) => Shape::Alike(format!("is not like {SHAPE}: {error}")),
                Err(_) => Shape::Alike("calls, but has words around its JSON object".to_owned()),
            }
        }
    }
}

/// The names in objects of an answer that can be meant as calls without being written so.
pub fn bare_names(answer: &str) -> Vec<String> {
    if !answer.contains("\"name\"") {
        return Vec::new();
    }
    let found = find::values(answer);
    let values = found.iter().flat_map(|found| match &found.value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    });
    values
        .filter(|value| {
            let inputs = ["arguments", "parameters", "input"];
            inputs.iter().any(|input| value.get(input).is_some())
        })
        .filter_map(|value| value.get("name")?.as_str().map(str::to_owned))
        .collect()
}
