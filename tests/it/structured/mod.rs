//! Answers in the form that was asked for, whatever the upstream makes of it.

mod mending;
mod telling;

use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Rule, Script};
use serde_json::{Value, json};

use crate::proxy::{Proxy, Setup};
use crate::talk::soon;

/// A proxy whose upstream meets messages with these words in them so; others with the last one.
fn proxy(rules: &[(&str, Behaviour)]) -> Proxy {
    proxy_with(Setup::default(), rules)
}

fn proxy_with(setup: Setup, rules: &[(&str, Behaviour)]) -> Proxy {
    let proxy = Proxy::start(setup);
    proxy.sandbox.set_script(script(rules));
    proxy
}

/// What a message meets that has these words in it.
pub fn script(rules: &[(&str, Behaviour)]) -> Script {
    let rule = |(when, behaviour): &(&str, Behaviour)| Rule {
        when: (*when).to_owned(),
        times: None,
        behaviour: behaviour.clone(),
    };
    Script {
        rules: rules.iter().map(rule).collect(),
        ..Script::always(soon("hello"))
    }
}

/// How a message begins that asks for an answer to be mended.
pub const MENDING: &str = "Mend this answer";

/// The field of a request that wants an object with a number `n`, and nothing else.
pub fn number() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": false,
    });
    json!({"response_format": {
        "type": "json_schema",
        "json_schema": {"name": "number", "strict": true, "schema": schema},
    }})
}

/// The fields of a request that offers a function `add`.
fn adding(tool_choice: &str) -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    });
    json!({
        "tools": [{
            "type": "function",
            "function": {"name": "add", "description": "Adds.", "parameters": parameters},
        }],
        "tool_choice": tool_choice,
    })
}
