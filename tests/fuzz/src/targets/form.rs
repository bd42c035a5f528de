//! Answers that shall have a form, and the schemas of callers.

use std::sync::LazyLock;

use chaturdata_proxy::form::{
    Choice, Content, Described, Form, Function, Json, Kind, Several, Strict, Tools,
};
use serde_json::{Value, json};

const DESCRIBED: Described<'_> = Described {
    name: Some("sale"),
    description: None,
    strict: Strict::Yes,
};

static FORMS: LazyLock<[Form; 3]> = LazyLock::new(|| {
    let sale = json!({
        "type": "object",
        "properties": {"region": {"type": "string"}, "revenue": {"type": "number"}},
        "required": ["region"],
    });
    let json = || Json::schema(&sale, "schema", DESCRIBED).expect("it is a schema");
    let tools = || {
        let parameters = Some((&sale, "parameters"));
        let function = Function::new("sale", None, parameters, Strict::No);
        let functions = vec![function.expect("it is a schema")];
        Tools::new(functions, Choice::Auto, Several::Allowed)
    };
    [
        Form::json(json()),
        Form::tools(tools()),
        Form::tools_or_json(tools(), Json::object()),
    ]
});

/// The input is an answer.
pub fn answer(answer: &[u8]) {
    if let Ok(answer) = str::from_utf8(answer) {
        FORMS.iter().for_each(|form| read(form, answer));
    }
}

/// The input is a schema.
pub fn schema(text: &[u8]) {
    let Ok(schema) = serde_json::from_slice::<Value>(text) else {
        return;
    };
    match Json::schema(&schema, "schema", DESCRIBED) {
        Ok(json) => {
            let form = Form::json(json);
            for answer in ANSWERS {
                read(&form, answer);
            }
            // A schema is often valid under itself.
            read(&form, &schema.to_string());
        }
        Err(error) => assert!(error.place.starts_with("schema"), "{error}"),
    }
}

const ANSWERS: [&str; 4] = [
    r#"{"region": "North", "revenue": 1.5, "rows": [{"a": {"a": [1, "1", null]}}]}"#,
    r#"[["a", 1], {"a": true}]"#,
    "\"2025-01-01\"",
    "-1e9",
];

/// Whatever is read is what is sent to callers, and is read again after a restart.
fn read(form: &Form, answer: &str) {
    match form.read(answer) {
        Ok(content) => {
            assert!(form.kind().readings(answer).contains(&content));
            match content {
                Content::Text => assert_eq!(form.kind(), Kind::Calls),
                Content::Json(text) => {
                    assert!(serde_json::from_str::<Value>(&text).is_ok());
                    assert!(form.read(&text).is_ok());
                }
                Content::Calls(calls) => {
                    assert!(!calls.is_empty());
                    for call in calls {
                        let arguments: Value =
                            serde_json::from_str(&call.arguments).expect("arguments are JSON");
                        assert!(arguments.is_object());
                    }
                }
            }
        }
        Err(complaints) => {
            assert!((1..=3).contains(&complaints.0.len()));
            assert!(!form.mend("?", answer, &complaints).is_empty());
        }
    }
}
