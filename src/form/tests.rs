//! What is asked of an answer is found in it again, and nothing else passes.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn json_form(schema: &Value) -> Form {
    let described = Described {
        name: Some("sales"),
        description: Some("Sales of\na month."),
        strict: Strict::Yes,
    };
    Form::json(Json::schema(schema, "schema", described).unwrap())
}

fn weather(choice: Choice, several: Several) -> Tools {
    let parameters = json!({
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    });
    let functions = vec![
        Function::new(
            "weather",
            Some("Tells the weather."),
            Some((&parameters, "tools[0].function.parameters")),
            Strict::No,
        )
        .unwrap(),
        Function::new("now", None, None, Strict::No).unwrap(),
    ];
    Tools::new(functions, choice, several)
}

fn call(name: &str, arguments: &str) -> Call {
    Call {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

#[test]
fn a_form_of_json_says_what_is_wanted() {
    let form = json_form(&json!({"type": "object", "properties": {"n": {"type": "integer"}}}));

    insta::assert_snapshot!(form.block(), @r#"
    Answer format:

    Answer with one JSON value alone: no words around it, no code fence, no comments. It is called sales: Sales of a month.
    Make nothing up. It must be valid under this JSON Schema:
    {"type":"object","properties":{"n":{"type":"integer"}}}
    "#);
    insta::assert_snapshot!(form.reminder(), @"Answer format: one JSON value alone, valid under the JSON Schema given before.");
    insta::assert_snapshot!(Form::json(Json::object()).block(), @"
    Answer format:

    Answer with one JSON object alone: no words around it, no code fence, no comments.
    ");
}

#[test]
fn a_form_of_calls_says_what_can_be_called() {
    let tools = || weather(Choice::Auto, Several::Refused);
    let form = Form::tools_or_json(tools(), Json::object());

    insta::assert_snapshot!(form.block(), @r#"
    Tools:

    These functions can be called for you, one on each line:
    {"name":"weather","description":"Tells the weather.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}
    {"name":"now","parameters":{"type":"object"}}

    To call, answer with this JSON object alone, without words around it and without a code fence:
    {"tool_calls":[{"name":"NAME","arguments":{}}]}
    The arguments must be valid under the function's parameters. What the functions return comes with the next message. Call one function at a time. Where no function is needed, or any more, answer in the format that follows.

    Answer format:

    Answer with one JSON object alone: no words around it, no code fence, no comments.
    "#);
    insta::assert_snapshot!(form.reminder(), @r#"
    Tools: the functions named before can be called, by {"tool_calls":[{"name":"NAME","arguments":{}}]} alone. Where no function is needed, or any more, answer in the format that follows.

    Answer format: one JSON object alone.
    "#);
    let named = weather(Choice::Named("now".to_owned()), Several::Allowed);
    insta::assert_snapshot!(Form::tools(named).reminder(), @r#"Tools: the functions named before can be called, by {"tool_calls":[{"name":"NAME","arguments":{}}]} alone. This answer must call the function now."#);
}

#[test]
fn a_mending_message_holds_all_that_is_needed() {
    let form = Form::json(Json::object());
    let complaints = form.read("Forty-two.").unwrap_err();

    insta::assert_snapshot!(form.mend("How many?", "Forty-two.", &complaints), @"
    Mend this answer

    The answer below is not in the form that was asked for. Write it again in that form. Keep what it says, and make nothing up.

    What is wrong with it:
    - the answer: holds no JSON

    The question was:

    How many?

    The answer was:

    Forty-two.

    ---

    Answer format:

    Answer with one JSON object alone: no words around it, no code fence, no comments.
    ");
}

#[test]
fn json_is_taken_as_it_was_written() {
    let form = json_form(&json!({"type": "object", "required": ["a"]}));

    for answer in [
        r#"{"a": 1.0, "b": 10e2}"#,
        "It is:\n\n```json\n{\"a\": 1.0, \"b\": 10e2}\n```\n",
        "```\n[]\n```\nno, rather\n```\n{\"a\": 1.0, \"b\": 10e2}\n```",
        r#"So [1]: {"a": 1.0, "b": 10e2}, as I said: {"b":1000.0,"a":1.00}"#,
    ] {
        let read = form.read(answer);

        assert_eq!(
            read,
            Ok(Content::Json(r#"{"a": 1.0, "b": 10e2}"#.to_owned())),
            "{answer}"
        );
        assert!(form.kind().readings(answer).contains(&read.unwrap()));
    }
}

#[test]
fn what_is_not_the_json_that_was_asked_for_is_complained_of() {
    let form = json_form(&json!({"type": "object", "required": ["a"]}));
    for (answer, complaint) in [
        ("It is 1.", "the answer: holds no JSON"),
        (r#"{"a": 1"#, "the answer: holds no JSON"),
        (
            r#"{"a": 1} or {"a": 2}"#,
            "the answer: holds more than one JSON value",
        ),
        (r#"{"b": 1}"#, r#"the answer: "a" is a required property"#),
        ("[]", r#"the answer: the value is not of type "object""#),
        (
            "{} or {}",
            "the answer: holds several JSON values, and none of them is what was asked for",
        ),
    ] {
        let complaints = form.read(answer).unwrap_err();

        assert_eq!(complaints.to_string(), complaint, "{answer}");
    }
    assert!(Form::json(Json::object()).read("[1]").is_err());
}

#[test]
fn calls_are_read_where_they_are_the_whole_answer() {
    let form = Form::tools(weather(Choice::Auto, Several::Allowed));
    let answer = r#"{"tool_calls": [{"name": "weather", "arguments": {"city": "Ulm", "n": 1e3}},
        {"name": "now", "arguments": {}}]}"#;
    let calls = Content::Calls(vec![
        call("weather", r#"{"city": "Ulm", "n": 1e3}"#),
        call("now", "{}"),
    ]);

    for answer in [answer.to_owned(), format!("\n```json\n{answer}\n```\n")] {
        assert_eq!(form.read(&answer), Ok(calls.clone()));
        assert_eq!(form.kind().read(&answer), Some(calls.clone()));
    }
    assert_eq!(form.read("It rains."), Ok(Content::Text));
    assert_eq!(form.read(r#"{"city": "Ulm"}"#), Ok(Content::Text));
    assert_eq!(form.kind().read("It rains."), Some(Content::Text));
}

#[test]
fn what_is_meant_as_a_call_and_is_none_is_complained_of() {
    let form = Form::tools(weather(Choice::Auto, Several::Refused));
    for (answer, complaint) in [
        (r#"{"tool_calls": []}"#, "empty list"),
        (r#"{"tool_calls": {}}"#, "is not like"),
        (
            r#"{"tool_calls": [{"name": "now", "arguments": {}}], "text": ""}"#,
            "is not like",
        ),
        (r#"{"tool_calls": [{"name": "now"}]}"#, "is not like"),
        (
            r#"I ask. {"tool_calls": [{"name": "now", "arguments": {}}]}"#,
            "words around",
        ),
        (
            r#"{"tool_calls": [{"name": "then", "arguments": {}}]}"#,
            "tool_calls[0].name: must be one of weather, now",
        ),
        (
            r#"{"tool_calls": [{"name": "now", "arguments": "{}"}]}"#,
            "tool_calls[0].arguments: must be a JSON object",
        ),
        (
            r#"{"tool_calls": [{"name": "weather", "arguments": {"city": 1}}]}"#,
            r#"tool_calls[0].arguments.city: the value is not of type "string""#,
        ),
        (
            r#"{"tool_calls": [{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]}"#,
            "must hold one call",
        ),
        (r#"{"name": "now", "arguments": {}}"#, "names a function"),
        (
            "```json\n[{\"name\": \"now\", \"parameters\": {}}]\n```",
            "names a function",
        ),
    ] {
        let complaints = form.read(answer).unwrap_err();

        assert!(complaints.to_string().contains(complaint), "{complaints}");
    }
}

#[test]
fn a_call_that_is_demanded_must_come() {
    let now = r#"{"tool_calls": [{"name": "now", "arguments": {}}]}"#;
    let required = Form::tools(weather(Choice::Required, Several::Allowed));
    let named = Choice::Named("weather".to_owned());
    let named = Form::tools_or_json(weather(named, Several::Allowed), Json::object());

    assert!(required.read(now).is_ok());
    assert!(required.read("It rains.").is_err());
    assert_eq!(named.kind(), Kind::Calls);
    assert!(named.read(now).is_err());
    assert!(named.read("{}").is_err());
}

#[test]
fn where_json_or_calls_are_wanted_either_is_read() {
    let tools = weather(Choice::Auto, Several::Allowed);
    let form = Form::tools_or_json(tools, Json::object());
    let alike = r#"{"name": "now", "arguments": {}}"#;

    assert_eq!(
        form.read(r#"{"tool_calls": [{"name": "now", "arguments": {}}]}"#),
        Ok(Content::Calls(vec![call("now", "{}")]))
    );
    assert_eq!(form.read(alike), Ok(Content::Json(alike.to_owned())));
    assert!(form.read("It rains.").is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        "[a-z{}\\[\\]`~\"\\\\\n ]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z`{ ]{0,6}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[a-z`{ ]{0,6}", any_json()), 0..5)
        .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
}

/// Words that answers put around their JSON.
fn prose() -> impl Strategy<Value = String> {
    "[A-Za-z0-9 .,:\\[\\]'*#|\n-]{0,40}"
}

proptest! {
    #[test]
    fn what_is_wrapped_is_found_again(
        value in any_object(), before in prose(), after in prose(), wrap in 0..6_u8, indented: bool,
    ) {
        // That could be a list, which is another value.
        prop_assume!(wrap != 1 || !(before.contains('[') && after.contains(']')));
        let text = if indented {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        let answer = match wrap {
            0 => text.clone(),
            1 => format!("{before}{text}{after}"),
            2 => format!("{before}\n```json\n{text}\n```\n{after}"),
            3 => format!("{before}\n```\n{text}\n```\n{after}"),
            4 => format!("{before}\n~~~~ json\n{text}\n~~~~\n{after}"),
            _ => format!("```json\n{text}\n```"),
        };
        let form = Form::json(Json::object());

        let read = form.read(&answer);

        prop_assert_eq!(read.as_ref(), Ok(&Content::Json(text)), "{}", answer);
        prop_assert_eq!(form.kind().read(&answer), read.ok());
    }

    #[test]
    fn nothing_but_what_is_valid_is_ever_read(answer in answers()) {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
        });
        let form = Form::tools_or_json(
            weather(Choice::Auto, Several::Allowed),
            Json::schema(&schema, "", Described {
                name: None,
                description: None,
                strict: Strict::No,
            }).unwrap(),
        );

        let read = form.read(&answer);

        match &read {
            Ok(Content::Text) => prop_assert!(false, "text was not asked for"),
            Ok(Content::Json(text)) => {
                let value: Value = serde_json::from_str(text).unwrap();
                prop_assert!(value["a"].is_i64());
            }
            Ok(Content::Calls(calls)) => {
                prop_assert!(!calls.is_empty());
                for call in calls {
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    prop_assert!(arguments.is_object());
                    prop_assert!(call.name == "now" || arguments["city"].is_string());
                }
            }
            Err(complaints) => {
                prop_assert!((1..=3).contains(&complaints.0.len()));
                prop_assert!(complaints.0.iter().all(|told| told.chars().count() <= 200));
            }
        }
        if let Ok(read) = read {
            prop_assert!(form.kind().readings(&answer).contains(&read));
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_read(answer in any::<String>()) {
        for kind in [Kind::Text, Kind::Json, Kind::Calls, Kind::JsonOrCalls] {
            let _ = kind.read(&answer);
        }
    }
}

/// Pieces of answers, rightly put together and not.
fn answers() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        r#"{"a": 1}"#,
        r#"{"a": "1"}"#,
        r#"{"tool_calls": [{"name": "now", "arguments": {}}]}"#,
        r#"{"tool_calls": [{"name": "weather", "arguments": {"city": "Ulm"}}]}"#,
        r#"{"tool_calls": [{"name": "weather", "arguments": {"city": 1}}]}"#,
        r#"{"tool_calls": [{"name": "#,
        "```json\n",
        "\n```\n",
        "[1]",
        "\"",
        "}",
        "{",
        " so ",
        "\n",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}
