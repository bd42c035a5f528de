//! What a response says again of its request.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::openai::Error;
use crate::openai::fields::Fields;
use crate::openai::metadata::{Metadata, metadata};

/// What a response says again of its request. It is kept in memory alone: after a restart it is
/// what a request says that asks for nothing.
#[derive(Clone, Serialize)]
pub struct Echo {
    pub instructions: Option<String>,
    pub metadata: Metadata,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_output_tokens: Option<u64>,
    max_tool_calls: Option<u64>,
    parallel_tool_calls: bool,
    truncation: &'static str,
    tool_choice: Value,
    tools: Vec<Value>,
    text: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_identifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<String>,
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echo").finish_non_exhaustive()
    }
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            instructions: None,
            metadata: Metadata::new(),
            temperature: None,
            top_p: None,
            max_output_tokens: None,
            max_tool_calls: None,
            parallel_tool_calls: true,
            truncation: DISABLED,
            tool_choice: Value::from("auto"),
            tools: Vec::new(),
            text: text(Map::new()),
            reasoning: None,
            user: None,
            safety_identifier: None,
            prompt_cache_key: None,
        }
    }
}

const DISABLED: &str = "disabled";

impl Echo {
    /// Reads what will be said again, as far as it is what OpenAI would take.
    pub fn read(fields: Fields<'_>) -> Result<Self, Error> {
        let number = |name, most| {
            let number = fields.value(name).and_then(Value::as_f64);
            number.filter(|number| (0.0..=most).contains(number))
        };
        let object = |name| {
            fields
                .value(name)
                .filter(|value| value.is_object())
                .cloned()
        };
        let string = |name| fields.value(name)?.as_str().map(str::to_owned);
        let usual = Self::default();
        let choice = fields.value("tool_choice").cloned();
        Ok(Self {
            instructions: fields.text("instructions")?.map(str::to_owned),
            metadata: metadata(fields)?,
            temperature: number("temperature", 2.0),
            top_p: number("top_p", 1.0),
            max_output_tokens: fields.count("max_output_tokens")?,
            max_tool_calls: fields.count("max_tool_calls")?,
            parallel_tool_calls: fields.flag("parallel_tool_calls")?.unwrap_or(true),
            truncation: truncation(fields)?,
            tool_choice: choice.unwrap_or(usual.tool_choice),
            tools: tools(fields)?,
            text: text(fields.map("text")?.cloned().unwrap_or_default()),
            reasoning: object("reasoning"),
            user: string("user"),
            safety_identifier: string("safety_identifier").filter(|id| id.len() <= 64),
            prompt_cache_key: string("prompt_cache_key"),
        })
    }
}

fn truncation(fields: Fields<'_>) -> Result<&'static str, Error> {
    match fields.text("truncation")? {
        None | Some(DISABLED) => Ok(DISABLED),
        Some("auto") => Ok("auto"),
        Some(_) => {
            let message = "truncation must be auto or disabled";
            Err(Error::invalid("truncation", message))
        }
    }
}

fn tools(fields: Fields<'_>) -> Result<Vec<Value>, Error> {
    let tools = fields.array("tools")?.unwrap_or_default();
    tools
        .iter()
        .map(|tool| Ok(Value::Object(told(tool)?)))
        .collect()
}

/// A function is told with the fields that a request may leave out.
fn told(tool: &Value) -> Result<Map<String, Value>, Error> {
    let Value::Object(tool) = tool else {
        return Err(Error::invalid("tools", "tools must be objects"));
    };
    let mut tool = tool.clone();
    if tool.get("type").is_some_and(|kind| kind == "function") {
        tool.entry("parameters").or_insert(Value::Null);
        tool.entry("strict").or_insert(Value::Bool(true));
    }
    Ok(tool)
}

/// The field `text`, with the format that is meant where it names none.
fn text(mut text: Map<String, Value>) -> Value {
    if text.get("format").is_none_or(Value::is_null) {
        let plain = Map::from_iter([("type".to_owned(), Value::from("text"))]);
        text.insert("format".to_owned(), Value::Object(plain));
    }
    Value::Object(text)
}
