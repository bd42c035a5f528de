//! The table of parameters: complete, and the same wherever it is shown.

use std::collections::BTreeSet;

use chaturdata_proxy::config::AutoTools;
use chaturdata_proxy::openai::Policy;
use chaturdata_proxy::openai::params::{
    CHAT, COMPLETIONS, RESPONSES, capabilities, markdown_table,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Known {
    fields: BTreeSet<String>,
}

fn shown(policy: &Policy) -> Value {
    serde_json::to_value(capabilities(policy)).unwrap()
}

#[test]
fn every_field_of_the_openai_request_has_its_row() {
    let known: Known = serde_json::from_str(include_str!("goldens/parameters/chat.json")).unwrap();

    let table = shown(&Policy::default());

    let rows = table["parameters"]["chat.completions"]
        .as_array()
        .unwrap()
        .iter();
    let named: BTreeSet<_> = rows.map(|row| row["name"].as_str().unwrap()).collect();
    let missing: Vec<_> = known
        .fields
        .iter()
        .filter(|field| !named.contains(field.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_readme_shows_the_tables_as_they_are() {
    let readme = include_str!("../../README.md");

    for (name, parameters) in [
        ("chat", CHAT),
        ("responses", RESPONSES),
        ("completions", COMPLETIONS),
    ] {
        let mark = format!("<!-- parameters: {name} -->\n");
        let (_, rest) = readme.split_once(&mark).unwrap();
        let (table, _) = rest.split_once("<!-- /parameters -->").unwrap();

        assert_eq!(table.trim(), markdown_table(parameters).trim(), "{name}");
    }
}

#[test]
fn capabilities_tell_every_endpoint_and_what_is_emulated() {
    let shown = shown(&Policy::default());
    let list = |name: &str| shown[name].as_array().unwrap().clone();

    let (endpoints, emulated) = (list("endpoints"), list("emulated"));
    assert_eq!(
        endpoints,
        [
            "POST /v1/chat/completions",
            "POST /v1/completions",
            "POST /v1/responses",
            "GET /v1/responses/{response}",
            "DELETE /v1/responses/{response}",
            "POST /v1/responses/{response}/cancel",
            "GET /v1/responses/{response}/input_items",
            "POST /v1/responses/input_tokens",
            "POST /v1/conversations",
            "GET /v1/conversations/{conversation}",
            "POST /v1/conversations/{conversation}",
            "DELETE /v1/conversations/{conversation}",
            "GET /v1/conversations/{conversation}/items",
            "POST /v1/conversations/{conversation}/items",
            "GET /v1/conversations/{conversation}/items/{item}",
            "DELETE /v1/conversations/{conversation}/items/{item}",
            "GET /v1/models",
            "GET /v1/models/{model}",
            "GET /v1/capabilities",
        ]
    );
    assert_eq!(
        emulated,
        [
            "stop",
            "max_completion_tokens",
            "max_tokens",
            "n",
            "response_format",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "functions",
            "function_call",
            "max_output_tokens",
            "text",
            "echo",
        ]
    );
}

#[test]
fn capabilities_tell_what_is_configured() {
    let mut shown = shown(&Policy {
        aliases: vec!["chaturdata".to_owned()],
        strict_models: true,
        strict_parameters: false,
        auto_tools: AutoTools::Ignore,
    });
    for table in shown["parameters"].as_object_mut().unwrap().values_mut() {
        *table = table[0].take();
    }
    for told_apart in ["endpoints", "emulated"] {
        shown.as_object_mut().unwrap().shift_remove(told_apart);
    }

    insta::assert_snapshot!(format!("{shown:#}"));
}
