//! A script's parts: JSON and calls in the form that a message asks for, well or badly.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fill::{Facts, filled};
use super::wanted::{Demand, Function, Json, Wanted, wanted};

/// What a run answers with, where its message asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// JSON that fits the schema.
    Json,
    /// A call of the function that is demanded, or of the first, with arguments that fit.
    Call,
}

/// What is wrong with JSON and calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spoilt {
    #[default]
    No,
    /// The last brace is missing.
    Broken,
    /// Words stand around it.
    Prose,
    /// It stands in a fence.
    Fence,
    /// It is JSON, and does not fit.
    WrongType,
}

/// What a part says to a message; `None` where the message asks for nothing of the kind.
pub fn played(part: Part, spoilt: Spoilt, earlier: &[&str], message: &str) -> Option<String> {
    let wanted = wanted(earlier, message)?;
    let value = match part {
        Part::Json => json(wanted.json.as_ref()?, spoilt),
        Part::Call => call(&wanted, spoilt)?,
    };
    let text = value.to_string();
    Some(match spoilt {
        Spoilt::No | Spoilt::WrongType => text,
        Spoilt::Broken => text
            .chars()
            .take(text.chars().count().saturating_sub(1))
            .collect(),
        Spoilt::Prose => format!("Here it is:\n\n{text}\n\nI hope that helps."),
        Spoilt::Fence => format!("```json\n{text}\n```"),
    })
}

fn json(wanted: &Json, spoilt: Spoilt) -> Value {
    match (wanted, spoilt) {
        (Json::Schema(schema), Spoilt::WrongType) => mistyped(schema),
        (Json::Schema(schema), _) => filled(schema, &Facts::default()),
        (Json::Object, Spoilt::WrongType) => json!([]),
        (Json::Object, _) => json!({"answer": "unknown"}),
    }
}

fn call(wanted: &Wanted, spoilt: Spoilt) -> Option<Value> {
    let function = demanded(wanted)?;
    let arguments = match spoilt {
        Spoilt::WrongType => mistyped(&function.parameters),
        _ => arguments(&function.parameters, &Facts::default()),
    };
    Some(calls(&[(&function.name, arguments)]))
}

/// The function that is demanded, or the first.
fn demanded(wanted: &Wanted) -> Option<&Function> {
    let mut functions = wanted.functions.iter();
    match &wanted.demand {
        Demand::This(name) => functions.find(|function| function.name == *name),
        Demand::Any | Demand::None => functions.next(),
    }
}

/// An answer that makes these calls.
pub fn calls(calls: &[(&str, Value)]) -> Value {
    let calls = calls
        .iter()
        .map(|(name, arguments)| json!({"name": name, "arguments": arguments}));
    json!({"tool_calls": calls.collect::<Vec<_>>()})
}

/// Arguments are an object, whatever the schema leaves open.
pub fn arguments(parameters: &Value, facts: &Facts) -> Value {
    match filled(parameters, facts) {
        Value::Object(arguments) => Value::Object(arguments),
        _ => Value::Object(Map::new()),
    }
}

/// Where an object is wanted, each of its properties as what it must not be; else an object.
fn mistyped(schema: &Value) -> Value {
    let Value::Object(mut map) = filled(schema, &Facts::default()) else {
        return json!({"mistyped": true});
    };
    if map.is_empty() {
        return json!([]);
    }
    for value in map.values_mut() {
        *value = match value {
            Value::Array(_) => json!({"mistyped": true}),
            _ => json!([["mistyped"]]),
        };
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALE: &str =
        r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;

    fn says(part: Part, spoilt: Spoilt, block: &str) -> Option<String> {
        let message = format!("Sales?\n\n---\n\n{block}");
        played(part, spoilt, &[], &message)
    }

    #[test]
    fn parts_are_played_well_and_badly() {
        let json = format!("Answer format:\n\nIt is JSON:\n{SALE}");
        let tools = format!(
            "Tools:\n\nThese:\n{{\"name\":\"a\",\"parameters\":{{}}}}\n{{\"name\":\"b\",\
             \"parameters\":{SALE}}}\n\nThis answer must call the function b."
        );
        for (part, spoilt, block, said) in [
            (Part::Json, Spoilt::No, &json, r#"{"n":0}"#),
            (Part::Json, Spoilt::Broken, &json, r#"{"n":0"#),
            (Part::Json, Spoilt::Fence, &json, "```json\n{\"n\":0}\n```"),
            (
                Part::Json,
                Spoilt::WrongType,
                &json,
                r#"{"n":[["mistyped"]]}"#,
            ),
            (
                Part::Call,
                Spoilt::No,
                &tools,
                r#"{"tool_calls":[{"name":"b","arguments":{"n":0}}]}"#,
            ),
        ] {
            assert_eq!(
                says(part, spoilt, block).as_deref(),
                Some(said),
                "{spoilt:?}"
            );
        }
        assert_eq!(says(Part::Call, Spoilt::No, &json), None);
        assert_eq!(played(Part::Json, Spoilt::No, &[], "Sales?"), None);
    }
}
