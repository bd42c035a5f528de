//! Answers as clients read them: whole bodies, and the strict types of async-openai over each.

use std::sync::Arc;

use async_openai::types::chat::{
    CreateChatCompletionResponse, CreateChatCompletionStreamResponse, FinishReason,
};
use async_openai::types::models::{ListModelResponse, Model};
use chaturdata_proxy::openai::chat::{self, Chunks};
use chaturdata_proxy::openai::render::{Event, Render};
use chaturdata_proxy::openai::{Head, Policy, models};
use chaturdata_proxy::run::{Answer, Finish};
use chaturdata_proxy::upstream::Annotation;
use insta::assert_snapshot;
use serde::Serialize;

fn head() -> Head {
    Head {
        id: "chatcmpl-0123456789abcdef0123456789abcdef".to_owned(),
        created: 1_764_000_000,
        model: "chaturdata".to_owned(),
    }
}

fn answer(finish: Finish) -> Answer {
    Answer {
        calls: Vec::new(),
        text: "North\nleads \u{2014} by \"far\".".to_owned(),
        finish,
        annotations: Vec::new(),
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

fn pretty(body: impl Serialize) -> String {
    serde_json::to_string_pretty(&body).unwrap()
}

fn body(answer: Answer) -> String {
    pretty(chat::completion(&head(), &[Arc::new(answer)], 8))
}

/// A stream of one answer that came in two pieces, each chunk read by async-openai.
fn stream(answer: &Answer, include_usage: bool) -> Vec<String> {
    let mut chunks = Chunks::new(head(), 1, include_usage, 8);
    let (first, second) = answer.text.split_at(5);
    let mut events = chunks.begin();
    events.extend(chunks.keep_alive());
    events.extend(chunks.text(0, first));
    events.extend(chunks.text(0, second));
    events.extend(chunks.end(0, answer));
    events.extend(chunks.close(&[Arc::new(answer.clone())]));
    assert_eq!(events.pop(), Some(Event::done()));
    let lines: Vec<String> = events.into_iter().map(|event| event.data).collect();
    for line in &lines {
        let read: CreateChatCompletionStreamResponse = serde_json::from_str(line).unwrap();
        assert_eq!(read.object, "chat.completion.chunk");
    }
    lines
}

#[test]
fn a_completion_has_every_key_that_clients_look_for() {
    let body = body(answer(Finish::Stop));

    let read: CreateChatCompletionResponse = serde_json::from_str(&body).unwrap();
    assert_eq!(read.choices[0].finish_reason, Some(FinishReason::Stop));
    assert_snapshot!(body, @r#"
    {
      "id": "chatcmpl-0123456789abcdef0123456789abcdef",
      "object": "chat.completion",
      "created": 1764000000,
      "model": "chaturdata",
      "choices": [
        {
          "index": 0,
          "message": {
            "role": "assistant",
            "content": "North\nleads — by \"far\".",
            "refusal": null
          },
          "logprobs": null,
          "finish_reason": "stop"
        }
      ],
      "usage": {
        "prompt_tokens": 8,
        "completion_tokens": 8,
        "total_tokens": 16
      }
    }
    "#);
}

#[test]
fn a_cut_answer_ends_by_its_length() {
    let body = body(answer(Finish::Length));

    let read: CreateChatCompletionResponse = serde_json::from_str(&body).unwrap();
    assert_eq!(read.choices[0].finish_reason, Some(FinishReason::Length));
}

#[test]
fn sources_are_told_as_far_as_the_text_goes() {
    let body = body(with_sources());

    let read: CreateChatCompletionResponse = serde_json::from_str(&body).unwrap();
    let message = serde_json::to_value(&read.choices[0].message).unwrap();
    assert_snapshot!(format!("{:#}", message["annotations"]), @r#"
    [
      {
        "type": "url_citation",
        "url_citation": {
          "end_index": 5,
          "start_index": 0,
          "title": "Q2",
          "url": "https://reports.example/q2"
        }
      }
    ]
    "#);
}

#[test]
fn a_stream_says_who_speaks_then_what_then_why_it_ends() {
    assert_snapshot!(stream(&answer(Finish::Stop), false).join("\n"), @r#"
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"content":"North"},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"content":"\nleads — by \"far\"."},"logprobs":null,"finish_reason":null}]}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
    "#);
}

#[test]
fn a_stream_that_asked_for_usage_ends_with_it() {
    assert_snapshot!(stream(&answer(Finish::Length), true).join("\n"), @r#"
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"content":"North"},"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"content":"\nleads — by \"far\"."},"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null}
    {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":8,"total_tokens":16}}
    "#);
}

#[test]
fn a_stream_tells_sources_before_it_ends() {
    let lines = stream(&with_sources(), false);

    assert_snapshot!(lines[4], @r#"{"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk","created":1764000000,"model":"chaturdata","choices":[{"index":0,"delta":{"annotations":[{"type":"url_citation","url_citation":{"start_index":0,"end_index":5,"url":"https://reports.example/q2","title":"Q2"}}]},"logprobs":null,"finish_reason":null}]}"#);
    assert!(lines[5].contains(r#""finish_reason":"stop""#));
}

#[test]
fn a_chunk_is_one_line_whatever_the_text() {
    let mut chunks = Chunks::new(head(), 1, false, 8);
    let text = "a\r\n\ndata: [DONE]\n\n\u{2028}\u{0}";

    let line = chunks.text(0, text).remove(0).data;

    assert!(!line.contains(['\n', '\r']));
    let read: CreateChatCompletionStreamResponse = serde_json::from_str(&line).unwrap();
    assert_eq!(read.choices[0].delta.content.as_deref(), Some(text));
}

#[test]
fn models_are_listed_by_their_names() {
    let policy = Policy {
        aliases: vec!["chaturdata".to_owned(), "team/chaturdata".to_owned()],
        ..Policy::default()
    };

    let list = pretty(models::list(&policy));
    let one = pretty(models::find(&policy, "gpt-4o").unwrap());

    assert_eq!(
        serde_json::from_str::<ListModelResponse>(&list)
            .unwrap()
            .data
            .len(),
        2
    );
    assert_eq!(serde_json::from_str::<Model>(&one).unwrap().id, "gpt-4o");
    assert_snapshot!(list, @r#"
    {
      "object": "list",
      "data": [
        {
          "id": "chaturdata",
          "object": "model",
          "created": 1735689600,
          "owned_by": "chaturdata"
        },
        {
          "id": "team/chaturdata",
          "object": "model",
          "created": 1735689600,
          "owned_by": "chaturdata"
        }
      ]
    }
    "#);
}
