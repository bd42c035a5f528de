//! Legacy completions as clients read them.

use std::sync::Arc;

use async_openai::types::completions::CreateCompletionResponse;
use chaturdata_proxy::openai::completions::{Chunks, completion};
use chaturdata_proxy::openai::render::{Event, Render};
use chaturdata_proxy::run::Finish;

use super::{answer, head, told};

#[test]
fn answers_stand_behind_their_prompts_in_one_body() {
    let answers = [
        Arc::new(answer(Finish::Stop)),
        Arc::new(answer(Finish::Length)),
    ];
    let echoes = ["A? ".to_owned(), "B? ".to_owned()];
    let head = head("cmpl-1");

    let body = completion(&head, &answers, &echoes, 8);

    let body = told::<CreateCompletionResponse>("CreateCompletionResponse", body);
    insta::assert_snapshot!(format!("{body:#}"), @r#"
    {
      "id": "cmpl-1",
      "object": "text_completion",
      "created": 1764000000,
      "model": "chaturdata",
      "choices": [
        {
          "text": "A? North\nleads — by \"far\".",
          "index": 0,
          "logprobs": null,
          "finish_reason": "stop"
        },
        {
          "text": "B? North\nleads — by \"far\".",
          "index": 1,
          "logprobs": null,
          "finish_reason": "length"
        }
      ],
      "usage": {
        "prompt_tokens": 8,
        "completion_tokens": 16,
        "total_tokens": 24
      }
    }
    "#);
}

#[test]
fn a_stream_says_what_each_choice_says_then_why_it_ends() {
    let answers = [
        Arc::new(answer(Finish::Stop)),
        Arc::new(answer(Finish::Length)),
    ];
    let mut chunks = Chunks::new(head("cmpl-1"), true, vec!["A? ".to_owned()], 8);

    let mut events = chunks.begin();
    events.extend(chunks.keep_alive());
    events.extend(chunks.text(1, "North\n"));
    events.extend(chunks.end(1, &answers[1]));
    events.extend(chunks.end(0, &answers[0]));
    events.extend(chunks.close(&answers));

    assert_eq!(events.pop(), Some(Event::done()));
    let lines: Vec<String> = events.into_iter().map(|event| event.data).collect();
    for line in &lines {
        let read: CreateCompletionResponse = serde_json::from_str(line).unwrap();
        assert_eq!(read.object, "text_completion");
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    {"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"chaturdata","choices":[{"text":"A? ","index":0,"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"chaturdata","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"chaturdata","choices":[{"text":"North\n","index":1,"logprobs":null,"finish_reason":null}],"usage":null}
    {"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"chaturdata","choices":[{"text":"","index":1,"logprobs":null,"finish_reason":"length"}],"usage":null}
    {"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"chaturdata","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":null}
    {"id":"cmpl-1","object":"text_completion","created":1764000000,"model":"chaturdata","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":16,"total_tokens":24}}
    "#);
}

#[test]
fn usage_is_told_at_the_end_of_streams_that_ask_for_it() {
    let mut chunks = Chunks::new(head("cmpl-1"), false, Vec::new(), 8);

    assert_eq!(chunks.close(&[]), [Event::done()]);
    assert!(chunks.begin().is_empty());
    assert!(!chunks.text(0, "a")[0].data.contains("usage"));
}
