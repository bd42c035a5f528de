//! Fields of requests, and the forms that come of them.

use serde_json::{Value, json};

use super::*;
use crate::config::AutoTools;
use crate::form::Kind;
use crate::openai::Reason;

fn wanted(fields: &Value, auto_tools: AutoTools) -> Result<Wanted, Error> {
    let policy = Policy {
        auto_tools,
        ..Policy::default()
    };
    let map = fields.as_object().unwrap();
    let fields = Fields::new(map);
    if map.contains_key("input") {
        of_response(fields, &policy)
    } else {
        of_chat(fields, &policy)
    }
}

fn emulated(fields: &Value) -> Wanted {
    wanted(fields, AutoTools::Emulate).unwrap()
}

fn block(wanted: &Wanted) -> &str {
    wanted.form.as_ref().map_or("", |form| form.block())
}

fn unheeded(wanted: &Wanted) -> Vec<&'static str> {
    wanted.unheeded.iter().map(|field| field.field).collect()
}

/// A function as chats bring it.
fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

/// A function as responses bring it.
fn flat(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object"}, "strict": null})
}

#[test]
fn requests_without_form_want_free_text() {
    for fields in [
        json!({}),
        json!({"response_format": null, "tools": null, "tool_choice": null}),
        json!({"response_format": {"type": "text"}}),
        json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": false}),
        json!({"tools": [function("f")], "tool_choice": "none"}),
        json!({"functions": [{"name": "f"}], "function_call": "none"}),
        json!({"input": "", "text": {}}),
        json!({"input": "", "text": {"format": {"type": "text"}, "verbosity": "medium"}}),
        json!({"input": "", "tools": [flat("f")], "tool_choice": "none"}),
    ] {
        let wanted = emulated(&fields);

        assert!(wanted.form.is_none(), "{fields}");
        assert!(wanted.unheeded.is_empty(), "{fields}");
    }
}

#[test]
fn both_endpoints_ask_for_the_same_json() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let chat = emulated(
        &json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "count", "description": "A count.", "strict": true, "schema": schema}}}),
    );
    let response = emulated(
        &json!({"input": "", "text": {"format": {"type": "json_schema",
        "name": "count", "description": "A count.", "strict": true, "schema": schema}}}),
    );

    assert_eq!(block(&chat), block(&response));
    assert!(block(&chat).contains("It is called count: A count."));
    assert!(block(&chat).ends_with(&schema.to_string()));
    for fields in [
        json!({"response_format": {"type": "json_object"}}),
        json!({"input": "", "text": {"format": {"type": "json_object"}}}),
    ] {
        assert_eq!(emulated(&fields).form.unwrap().kind(), Kind::Json);
    }
}

#[test]
fn both_endpoints_offer_the_same_functions() {
    for (choice, flat_choice, words) in [
        (json!("auto"), json!("auto"), "Where no function is needed"),
        (json!("required"), json!("required"), "must call a function"),
        (
            json!({"type": "function", "function": {"name": "b"}}),
            json!({"type": "function", "name": "b"}),
            "must call the function b",
        ),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required",
                "tools": [{"type": "function", "function": {"name": "b"}}]}}),
            json!({"type": "allowed_tools", "mode": "required",
                "tools": [{"type": "function", "name": "b"}]}),
            "must call a function",
        ),
    ] {
        let chat = emulated(&json!({"tools": [function("a"), function("b")],
            "tool_choice": choice}));
        let response = emulated(&json!({"input": "", "tools": [flat("a"), flat("b")],
            "tool_choice": flat_choice}));

        assert_eq!(block(&chat), block(&response), "{choice}");
        assert!(block(&chat).contains(words), "{choice}");
        let offers_a = block(&chat).contains(r#"{"name":"a""#);
        assert_eq!(offers_a, choice.is_string(), "{choice}");
    }
}

#[test]
fn calls_can_be_wanted_one_at_a_time() {
    let one = emulated(&json!({"tools": [function("a")], "parallel_tool_calls": false}));
    let legacy = emulated(&json!({"functions": [{"name": "a"}], "function_call": {"name": "a"}}));

    assert!(block(&one).contains("one function at a time"));
    assert!(block(&legacy).contains("one function at a time"));
    assert!(block(&legacy).contains("must call the function a"));
    assert_eq!((one.calls, legacy.calls), (Calls::Tools, Calls::Function));
}

#[test]
fn json_and_tools_can_be_wanted_together() {
    let format = json!({"type": "json_object"});
    for (choice, kind) in [
        ("auto", Kind::JsonOrCalls),
        ("required", Kind::Calls),
        ("none", Kind::Json),
    ] {
        let wanted = emulated(&json!({"response_format": format, "tools": [function("a")],
            "tool_choice": choice}));

        assert_eq!(wanted.form.unwrap().kind(), kind, "{choice}");
    }
}

#[test]
fn tools_that_need_not_be_called_are_taken_as_configured() {
    let auto = json!({"tools": [function("a")], "tool_choice": "auto"});
    let required = json!({"tools": [function("a")], "tool_choice": "required"});

    let ignored = wanted(&auto, AutoTools::Ignore).unwrap();
    assert!(ignored.form.is_none());
    assert_eq!(unheeded(&ignored), ["tools", "tool_choice"]);
    let refused = wanted(&auto, AutoTools::Refuse).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("tools"));
    for auto_tools in [AutoTools::Ignore, AutoTools::Refuse] {
        let wanted = wanted(&required, auto_tools).unwrap();
        assert_eq!(wanted.form.unwrap().kind(), Kind::Calls);
    }
}

#[test]
fn built_in_tools_change_nothing_and_cannot_be_demanded() {
    let search = json!({"type": "web_search"});
    let beside = emulated(&json!({"input": "", "tools": [search, flat("a")],
        "tool_choice": "required"}));
    let alone = emulated(&json!({"input": "", "tools": [search]}));

    assert_eq!(beside.form.as_ref().unwrap().kind(), Kind::Calls);
    assert_eq!(unheeded(&beside), ["tools"]);
    assert!(alone.form.is_none());
    assert_eq!(unheeded(&alone), ["tools"]);
    let nothing = emulated(&json!({"tool_choice": "required"}));
    assert_eq!(unheeded(&nothing), ["tool_choice"]);
}

#[test]
fn what_cannot_be_had_is_refused_by_its_place() {
    let schema = |schema: Value| {
        json!({"response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "schema": schema}}})
    };
    let tool = |tool: Value| json!({"tools": [function("a"), tool]});
    let choice = |choice: Value| json!({"tools": [function("a")], "tool_choice": choice});
    for (fields, param) in [
        (
            schema(json!({"properties": {"a": {"type": "text"}}})),
            "response_format.json_schema.schema.properties.a.type",
        ),
        (
            schema(json!({"$ref": "https://schema.example/a"})),
            "response_format.json_schema.schema.$ref",
        ),
        (
            schema(json!("object")),
            "response_format.json_schema.schema",
        ),
        (json!({"response_format": {}}), "response_format.type"),
        (json!({"response_format": "json"}), "response_format"),
        (
            json!({"response_format": {"type": "grammar"}}),
            "response_format.type",
        ),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
        ),
        (
            json!({"input": "", "text": {"format": {"type": "json_schema", "name": "n",
                "schema": {"type": 1}}}}),
            "text.format.schema.type",
        ),
        (tool(json!("f")), "tools[1]"),
        (tool(json!({"type": "function"})), "tools[1].name"),
        (tool(function("a b")), "tools[1].function.name"),
        (tool(function("a")), "tools[1].function.name"),
        (
            tool(json!({"type": "function", "function": {"name": "b", "parameters": {"type": 1}}})),
            "tools[1].function.parameters.type",
        ),
        (
            json!({"input": "", "tools": [{"type": "function", "name": "b",
                "parameters": {"properties": []}}]}),
            "tools[0].parameters.properties",
        ),
        (
            json!({"functions": [{"name": "f", "parameters": []}]}),
            "functions[0].parameters",
        ),
        (choice(json!("sometimes")), "tool_choice"),
        (choice(json!(1)), "tool_choice"),
        (
            choice(json!({"type": "function", "function": {"name": "b"}})),
            "tool_choice",
        ),
        (choice(json!({"type": "web_search"})), "tool_choice"),
        (
            json!({"input": "", "tools": [{"type": "web_search"}], "tool_choice": "required"}),
            "tools[0]",
        ),
        (
            json!({"functions": [{"name": "f"}], "function_call": {"name": "g"}}),
            "function_call",
        ),
    ] {
        let error = wanted(&fields, AutoTools::Emulate).unwrap_err();

        assert_eq!(error.param.as_deref(), Some(param), "{fields}");
        assert_ne!(error.reason, Reason::UnknownModel);
    }
}
