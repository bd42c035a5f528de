//! What is answered, against the schemas of OpenAI's own document and async-openai's strict types.

mod completions;
mod conversations;
mod responses;

use std::sync::Arc;

use async_openai::types::chat::CreateChatCompletionResponse;
use chaturdata_proxy::conversation::ToolCall;
use chaturdata_proxy::ids::ResponseId;
use chaturdata_proxy::openai::{Head, chat};
use chaturdata_proxy::run::{Answer, Finish};
use chaturdata_proxy::upstream::Annotation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const ID: ResponseId = ResponseId([0xa7; 16]);

/// The body, once it is what the document's schema says and what the type can be read from.
fn told<T: DeserializeOwned>(schema: &str, body: impl Serialize) -> Value {
    let body = serde_json::to_value(body).unwrap();
    check(schema, &body);
    let read: Result<T, _> = serde_json::from_str(&body.to_string());
    if let Err(error) = read {
        panic!("{error}\n{body:#}");
    }
    body
}

fn check(schema: &str, body: &Value) {
    if let Err(complaint) = complaint(schema, body) {
        panic!("{schema}: {complaint}\n{body:#}");
    }
}

fn complaint(schema: &str, body: &Value) -> Result<(), String> {
    let mut document: Value =
        serde_json::from_str(include_str!("../openapi/schemas.json")).unwrap();
    assert!(document["$defs"].get(schema).is_some(), "{schema}");
    document["$ref"] = Value::from(format!("#/$defs/{schema}"));
    let validator = jsonschema::validator_for(&document).unwrap();
    let complaint =
        |error: jsonschema::ValidationError<'_>| format!("{error} at {}", error.instance_path());
    validator.validate(body).map_err(complaint)
}

fn answer(finish: Finish) -> Answer {
    Answer {
        text: "North\nleads \u{2014} by \"far\".".to_owned(),
        finish,
        ..Answer::default()
    }
}

fn with_sources() -> Answer {
    let source = |start, end| Annotation {
        start,
        end,
        url: "https://reports.example/q2".to_owned(),
        title: "Q2".to_owned(),
    };
    Answer {
        annotations: vec![source(0, 5), source(20, 400)],
        ..answer(Finish::Stop)
    }
}

fn with_calls() -> Answer {
    let call = |id: &str, region: &str| ToolCall {
        id: id.to_owned(),
        name: "orders".to_owned(),
        arguments: format!("{{\"region\":\"{region}\"}}"),
    };
    Answer {
        calls: vec![call("call_1", "North"), call("call_2", "South")],
        finish: Finish::Calls,
        ..Answer::default()
    }
}

fn head(id: &str) -> Head {
    Head {
        id: id.to_owned(),
        created: 1_764_000_000,
        model: "chaturdata".to_owned(),
    }
}

#[test]
fn a_chat_completion_is_what_the_document_says() {
    for answer in [answer(Finish::Stop), answer(Finish::Length), with_sources()] {
        let head = head("chatcmpl-1");
        let answers = [Arc::new(answer)];
        let body = chat::completion(&head, &answers, 8);
        told::<CreateChatCompletionResponse>("CreateChatCompletionResponse", body);
    }
}

#[test]
fn a_wrong_shape_is_found() {
    let head = head("cmpl-1");
    let answers = [Arc::new(answer(Finish::Stop))];
    let body = chaturdata_proxy::openai::completions::completion(&head, &answers, &[], 8);
    let mut body = serde_json::to_value(body).unwrap();
    assert_eq!(complaint("CreateCompletionResponse", &body), Ok(()));

    body["choices"][0]["finish_reason"] = Value::from("calls");

    let found = complaint("CreateCompletionResponse", &body).unwrap_err();
    assert!(found.contains("/choices/0/finish_reason"), "{found}");
}
