//! What is answered, against the schemas of OpenAI's own document and async-openai's strict types.

mod completions;
mod conversations;
mod events;
mod responses;

use std::sync::Arc;

use async_openai::types::chat::{CreateChatCompletionResponse, CreateChatCompletionStreamResponse};
use chaturdata_proxy::conversation::ToolCall;
use chaturdata_proxy::ids::ResponseId;
use chaturdata_proxy::openai::Head;
use chaturdata_proxy::openai::chat::Chunks;
use chaturdata_proxy::openai::render::{Event, Render};
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
    let failure = read.err().map(|error| error.to_string());
    assert_eq!(failure, None, "{body:#}");
    body
}

fn check(schema: &str, body: &Value) {
    let complaint = complaint(schema, body);
    assert_eq!(complaint, Ok(()), "{schema}: {body:#}");
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

fn chats() -> [Arc<Answer>; 4] {
    [
        answer(Finish::Stop),
        answer(Finish::Length),
        with_sources(),
        with_calls(),
    ]
    .map(Arc::new)
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_chat_completion_is_what_the_document_says() {
    let chunks = Chunks::new(head("chatcmpl-1"), 4, false, 8);

    let body = chunks.body(&chats());

    told::<CreateChatCompletionResponse>("CreateChatCompletionResponse", value(&body));
}

#[test]
fn the_chunks_of_a_chat_are_what_the_document_says() {
    let answers = chats();
    let mut chunks = Chunks::new(head("chatcmpl-1"), answers.len(), true, 8);

    let mut events = chunks.begin();
    events.extend(chunks.keep_alive());
    for (index, answer) in answers.iter().enumerate() {
        events.extend(chunks.text(index, &answer.text));
        events.extend(chunks.end(index, answer));
    }
    events.extend(chunks.close(&answers));

    assert_eq!(events.pop(), Some(Event::done()));
    for event in &events {
        let schema = "CreateChatCompletionStreamResponse";
        let mut chunk = value(&event.data);
        // `null` but in the last, as the document's words have it; its schema does not.
        let fields = chunk.as_object_mut().unwrap();
        fields.retain(|name, value| name != "usage" || !value.is_null());
        told::<CreateChatCompletionStreamResponse>(schema, chunk);
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
