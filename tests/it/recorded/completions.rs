//! Requests for legacy completions.

use chaturdata_proxy::openai::Policy;
use chaturdata_proxy::openai::completions::CompletionRequest;

use super::{read, told};
use crate::goldens::{Golden, envelope, turn};

fn line(golden: &Golden) -> String {
    assert_eq!(golden.path, "/v1/completions");
    let request: CompletionRequest = read(&golden.body);
    let asked = request
        .into_turns(envelope(golden), &Policy::default())
        .unwrap();
    let mut lines = Vec::new();
    if asked.stream {
        lines.push(format!("stream, usage {}", asked.include_usage));
    }
    lines.extend(asked.turns.iter().flat_map(turn));
    if !asked.ignored.is_empty() {
        lines.push(format!("ignored {}", asked.ignored.join(", ")));
    }
    lines.join("\n  ")
}

#[test]
fn requests_for_completions_become_the_turns_they_mean() {
    insta::assert_snapshot!(told("completions", line), @r#"
    langchain-js invoke
      prompt User "Orders?"
    langchain-python invoke
      prompt User "Orders?"
      stop [], at most Some(256)
      ignored temperature
    litellm text
      prompt User "Orders?"
    llama-index chat
      prompt User "system: Be brief.\nuser: Orders?\nassistant: "
      ignored temperature
    llama-index complete
      prompt User "Orders by region?"
      ignored temperature
    llama-index stream
      stream, usage false
      prompt User "Orders?"
      ignored temperature
    llm prompt
      stream, usage true
      prompt User "Orders?"
    openai-node create
      prompt User "Orders?"
      stop [], at most Some(50)
    openai-node stream
      stream, usage false
      prompt User "Orders?"
    openai-python create
      prompt User "Orders by region?"
      stop [], at most Some(50)
      ignored temperature
    openai-python stream
      stream, usage true
      prompt User "Orders by region?"
      stop ["\n"], at most None
    "#);
}
