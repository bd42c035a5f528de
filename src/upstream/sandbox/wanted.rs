//! What a message says of the form of its answer, read as a model would read it.

use serde::Deserialize;
use serde_json::Value;

/// Stands between the blocks of a message.
const BORDER: &str = "\n\n---\n\n";

/// What the answer to a message shall look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// JSON, where nothing is called.
    pub json: Option<Json>,
    pub functions: Vec<Function>,
    pub demand: Demand,
}

/// The JSON that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Object,
    /// What is valid under this schema.
    Schema(Value),
}

/// A function that can be called.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Function {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub parameters: Value,
}

/// Whether a function must be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    #[default]
    None,
    Any,
    This(String),
}

/// What the last message wants; it may lean on what earlier ones said of forms.
pub fn wanted(earlier: &[&str], message: &str) -> Option<Wanted> {
    let block = block(message)?;
    let before = || {
        earlier
            .iter()
            .rev()
            .filter_map(|message| self::block(message))
    };
    let mut wanted = Wanted {
        demand: demand(block),
        ..Wanted::default()
    };
    if block.starts_with(TOOLS) {
        let mut told = std::iter::once(block).chain(before()).map(functions);
        wanted.functions = told.find(|told| !told.is_empty()).unwrap_or_default();
    }
    if let Some(format) = format(block) {
        let formats = std::iter::once(format).chain(before().filter_map(self::format));
        let schema = formats.filter_map(schema).next();
        wanted.json = Some(match schema {
            Some(schema) if !format.contains("one JSON object alone") => Json::Schema(schema),
            _ => Json::Object,
        });
    }
    Some(wanted)
}

/// The message without what it says of forms.
pub fn without(message: &str) -> &str {
    match message.rsplit_once(BORDER) {
        Some((text, block)) if is_about_forms(block.trim()) => text,
        _ => message,
    }
}

fn is_about_forms(block: &str) -> bool {
    let begins = [TOOLS, FORMAT, "The answer format and the functions"];
    begins.iter().any(|begin| block.starts_with(begin))
}

const TOOLS: &str = "Tools:";
const FORMAT: &str = "Answer format:";

/// The last block of a message, where it is about forms.
fn block(message: &str) -> Option<&str> {
    let (_, block) = message.rsplit_once(BORDER)?;
    let block = block.trim();
    (block.starts_with(TOOLS) || block.starts_with(FORMAT)).then_some(block)
}

fn functions(block: &str) -> Vec<Function> {
    let lines = block.lines().filter(|line| line.starts_with("{\"name\":"));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn demand(block: &str) -> Demand {
    if let Some((_, rest)) = block.rsplit_once("This answer must call the function ") {
        let name = rest.lines().next().unwrap_or_default();
        return Demand::This(name.trim_end_matches('.').to_owned());
    }
    if block.contains("This answer must call a function.") {
        return Demand::Any;
    }
    Demand::None
}

/// What a block says of JSON.
fn format(block: &str) -> Option<&str> {
    let at = if block.starts_with(FORMAT) {
        0
    } else {
        block.find(&format!("\n{FORMAT}"))? + 1
    };
    block.get(at..)
}

fn schema(format: &str) -> Option<Value> {
    let line = format.lines().last().filter(|line| line.starts_with('{'))?;
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = r#"{"type":"object"}"#;

    fn full() -> String {
        format!(
            "Sales?{BORDER}Tools:\n\nThey are:\n{{\"name\":\"now\",\"parameters\":{SCHEMA}}}\n\n\
             Call like so:\n{{\"tool_calls\":[]}}\n\nAnswer format:\n\nIt is JSON:\n{SCHEMA}"
        )
    }

    #[test]
    fn what_is_wanted_is_read_off_the_last_block() {
        let message = full();

        let wanted = wanted(&[], &message).unwrap();

        assert_eq!(wanted.functions[0].name, "now");
        assert_eq!(wanted.json, Some(Json::Schema(json!({"type": "object"}))));
        assert_eq!(wanted.demand, Demand::None);
        assert_eq!(without(&message), "Sales?");
        assert_eq!(super::wanted(&[], "Sales?\n\n---\n\nAnd now?"), None);
    }

    #[test]
    fn a_reminder_leans_on_the_block_before_it() {
        let reminder = format!(
            "And now?{BORDER}Tools: the functions named before. This answer must call the function now."
        );
        let format = format!("And now?{BORDER}Answer format: one JSON value alone, as before.");

        let called = wanted(&[&full(), "so"], &reminder).unwrap();
        let told = wanted(&[&full()], &format).unwrap();

        assert_eq!(called.functions.len(), 1);
        assert_eq!(called.demand, Demand::This("now".to_owned()));
        assert_eq!(told.json, Some(Json::Schema(json!({"type": "object"}))));
    }
}
