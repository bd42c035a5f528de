//! What becomes of every field of an OpenAI request.

mod completions;
mod responses;
mod table;

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value};

use super::basis::{MOST_CHOICES, MOST_STOPS};
use super::forms::Unheeded;
use super::{Error, Policy, models, names};
use crate::config::AutoTools;
pub use completions::COMPLETIONS;
pub use responses::RESPONSES;
pub use table::{CHAT, Parameter};
use table::{Treatment, Verdict};

/// The fields of a request that change nothing here, or the first that cannot be had.
pub fn ignored(
    table: &[Parameter],
    fields: &Map<String, Value>,
    unheeded: &[Unheeded],
    policy: &Policy,
) -> Result<Vec<String>, Error> {
    let mut ignored = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let parameter = table.iter().find(|parameter| parameter.name == name);
        let unheeded = unheeded.iter().find(|unheeded| unheeded.field == name);
        let note = match parameter {
            Some(_) if let Some(unheeded) = unheeded => unheeded.why,
            Some(parameter) => match parameter.judge(value) {
                Verdict::Served => continue,
                Verdict::Ignored => parameter.note,
                Verdict::Refused => {
                    let message =
                        format!("this value of {name} is not supported: {}", parameter.note);
                    return Err(Error::unsupported(name, message));
                }
            },
            None => "it is not known here",
        };
        if policy.strict_parameters {
            let name = printable(name);
            let message = format!("{name} would be ignored, and parameters are strict: {note}");
            return Err(Error::unsupported(name, message));
        }
        if ignored.len() < MOST_TOLD {
            ignored.push(printable(name));
        }
    }
    Ok(ignored)
}

/// A header tells of this many fields at most: their names are the caller's own text.
const MOST_TOLD: usize = 32;

/// A field's name as a header can carry it.
fn printable(name: &str) -> String {
    name.chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => c,
            _ => '?',
        })
        .collect()
}

/// The body of `GET /v1/capabilities`: what this proxy does with the OpenAI API.
pub fn capabilities(policy: &Policy) -> impl Serialize {
    Capabilities {
        object: "capabilities",
        endpoints: ENDPOINTS,
        models: Models {
            listed: &policy.aliases,
            others: if policy.strict_models {
                "refused"
            } else {
                "accepted"
            },
        },
        limits: Limits {
            choices: MOST_CHOICES,
            stop_sequences: MOST_STOPS,
            model_bytes: models::LONGEST,
            conversation_name_bytes: names::LONGEST,
        },
        usage: "estimated",
        strict: policy.strict_parameters,
        unknown_fields: if policy.strict_parameters {
            "refused"
        } else {
            "ignored"
        },
        tools: Tools {
            auto: match policy.auto_tools {
                AutoTools::Emulate => "emulated",
                AutoTools::Ignore => "ignored",
                AutoTools::Refuse => "refused",
            },
            demanded: "emulated",
        },
        emulated: emulated(),
        parameters: Tables {
            chat: CHAT,
            responses: RESPONSES,
            completions: COMPLETIONS,
        },
    }
}

/// The fields, of any endpoint, that the upstream knows nothing of.
fn emulated() -> Vec<&'static str> {
    let mut names = Vec::new();
    for parameter in [CHAT, RESPONSES, COMPLETIONS].into_iter().flatten() {
        if parameter.treatment == Treatment::Emulated && !names.contains(&parameter.name) {
            names.push(parameter.name);
        }
    }
    names
}

const ENDPOINTS: &[&str] = &[
    "POST /v1/chat/completions",
    "POST /v1/completions",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "GET /v1/capabilities",
];

#[derive(Serialize)]
struct Capabilities<'a> {
    object: &'static str,
    endpoints: &'static [&'static str],
    models: Models<'a>,
    limits: Limits,
    usage: &'static str,
    strict: bool,
    unknown_fields: &'static str,
    tools: Tools,
    emulated: Vec<&'static str>,
    parameters: Tables,
}

/// What becomes of tools: those that may be called, and those that must be.
#[derive(Serialize)]
struct Tools {
    auto: &'static str,
    demanded: &'static str,
}

#[derive(Serialize)]
struct Tables {
    #[serde(rename = "chat.completions")]
    chat: &'static [Parameter],
    responses: &'static [Parameter],
    completions: &'static [Parameter],
}

#[derive(Serialize)]
struct Models<'a> {
    listed: &'a [String],
    others: &'static str,
}

#[derive(Serialize)]
struct Limits {
    choices: usize,
    stop_sequences: usize,
    model_bytes: usize,
    conversation_name_bytes: usize,
}

/// A table as the README shows it.
pub fn markdown_table(parameters: &[Parameter]) -> String {
    let mut table = "| Field | Here | Note |\n| --- | --- | --- |\n".to_owned();
    for Parameter {
        name,
        treatment,
        note,
        ..
    } in parameters
    {
        let treatment = treatment.as_str();
        writeln!(table, "| `{name}` | {treatment} | {note} |").expect("a String takes any text");
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::Reason;
    use crate::openai::names::HANDLE_FIELDS;

    fn judged(fields: &Value, strict_parameters: bool) -> Result<Vec<String>, Error> {
        let policy = Policy {
            strict_parameters,
            ..Policy::default()
        };
        ignored(CHAT, fields.as_object().unwrap(), &[], &policy)
    }

    #[test]
    fn what_asks_for_nothing_unusual_is_neither_told_nor_refused() {
        let fields = json!({
            "model": "m", "messages": [], "stream": true, "stop": "a", "max_tokens": 5, "user": "u",
            "conversation": "c", "metadata": {"chat_id": "c"}, "n": 1, "logprobs": false,
            "top_logprobs": 0, "temperature": 1, "top_p": 1.0, "presence_penalty": 0,
            "frequency_penalty": 0.0, "logit_bias": {}, "tools": [], "functions": [],
            "tool_choice": "none", "function_call": "none", "parallel_tool_calls": true,
            "modalities": ["text"], "response_format": {"type": "text"}, "service_tier": "auto",
            "store": false, "verbosity": "medium", "audio": null, "seed": null, "later": null,
        });

        assert_eq!(judged(&fields, false), Ok(Vec::new()));
        assert_eq!(judged(&fields, true), Ok(Vec::new()));
    }

    #[test]
    fn what_changes_nothing_is_told_or_refused_where_parameters_are_strict() {
        for (name, value) in [
            ("temperature", json!(0.2)),
            ("top_p", json!(0.5)),
            ("seed", json!(u64::MAX)),
            ("metadata", json!({"chat_id": "c", "team": "a"})),
            ("reasoning_effort", json!("later")),
            ("service_tier", json!("flex")),
            ("prediction", json!({"type": "content", "content": "a"})),
            ("store", json!(true)),
            ("top_k", json!(5)),
        ] {
            let fields = json!({ name: value });

            assert_eq!(
                judged(&fields, false),
                Ok(vec![name.to_owned()]),
                "{fields}"
            );
            let error = judged(&fields, true).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name), "{fields}");
            assert_eq!(error.reason, Reason::Unsupported, "{fields}");
        }
    }

    #[test]
    fn what_would_change_the_answers_meaning_is_refused() {
        for (name, value) in [
            ("logprobs", json!(true)),
            ("top_logprobs", json!(2)),
            ("modalities", json!(["text", "audio"])),
            ("audio", json!({"voice": "alloy"})),
            ("web_search_options", json!({})),
            ("moderation", json!({"model": "m"})),
        ] {
            let fields = json!({ name: value });

            let error = judged(&fields, false).unwrap_err();

            assert_eq!(error.param.as_deref(), Some(name), "{fields}");
            assert_eq!(error.reason, Reason::Unsupported, "{fields}");
        }
    }

    #[test]
    fn a_refusal_says_what_can_be_had() {
        let error = judged(&json!({"modalities": ["audio"]}), false).unwrap_err();

        assert_eq!(
            error.message,
            "this value of modalities is not supported: only `[\"text\"]` can be had"
        );
    }

    #[test]
    fn unknown_names_are_told_as_a_header_can_carry_them() {
        let long = "a".repeat(100);
        let fields = json!({"a b\r\nc": 1, "naïve": 1, long: 1});

        let told = judged(&fields, false).unwrap();

        assert_eq!(told, ["a?b??c", "na?ve", &"a".repeat(64)]);
    }

    #[test]
    fn no_request_makes_the_header_long() {
        let fields: Map<String, Value> = (0..1000).map(|n| (format!("f{n}"), json!(1))).collect();

        assert_eq!(
            judged(&Value::Object(fields), false).unwrap().len(),
            MOST_TOLD
        );
    }

    #[test]
    fn the_tables_name_every_field_once() {
        for table in [CHAT, RESPONSES, COMPLETIONS] {
            let mut names: Vec<_> = table.iter().map(|parameter| parameter.name).collect();
            for field in HANDLE_FIELDS {
                assert!(names.contains(&field), "{field}");
            }
            names.sort_unstable();
            names.dedup();

            assert_eq!(names.len(), table.len());
        }
    }

    #[test]
    fn what_changes_nothing_as_things_are_is_told_too() {
        let fields = json!({"tools": [{}], "tool_choice": "auto"});
        let unheeded = [Unheeded {
            field: "tools",
            why: "there are none",
        }];
        let judged = |strict_parameters| {
            let policy = Policy {
                strict_parameters,
                ..Policy::default()
            };
            ignored(CHAT, fields.as_object().unwrap(), &unheeded, &policy)
        };

        assert_eq!(judged(false), Ok(vec!["tools".to_owned()]));
        let error = judged(true).unwrap_err();
        assert_eq!(
            error.message,
            "tools would be ignored, and parameters are strict: there are none"
        );
    }
}
