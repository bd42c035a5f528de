//! Requests about responses.

use chaturdata_proxy::openai::list::Paging;
use chaturdata_proxy::openai::responses::{Asked, ResponseRequest, Retrieval};
use chaturdata_proxy::openai::{Error, Policy};

use super::{query, read, told};
use crate::goldens::{Golden, envelope, turn};

fn asked(golden: &Golden) -> Result<Asked, Error> {
    let request: ResponseRequest = read(&golden.body);
    request.into_turn(envelope(golden), &Policy::default())
}

fn line(golden: &Golden) -> String {
    let Golden { method, path, .. } = golden;
    match (method.as_str(), path.as_str()) {
        ("POST", "/v1/responses") => match asked(golden) {
            Ok(asked) => request(&asked),
            Err(error) => format!("{:?} {:?}", error.reason, error.param),
        },
        ("POST", "/v1/responses/input_tokens") => {
            let request: ResponseRequest = read(&golden.body);
            format!("{} tokens", request.into_tokens().unwrap())
        }
        ("GET", path) if path.contains("/input_items") => {
            format!("{:?}", Paging::read(&query(path)).unwrap())
        }
        ("GET", path) => format!("{:?}", Retrieval::read(&query(path)).unwrap()),
        (method, path) => {
            assert!(golden.body.is_null());
            format!("{method} {path}")
        }
    }
}

fn request(asked: &Asked) -> String {
    let mut lines = Vec::new();
    if asked.stream {
        lines.push("stream".to_owned());
    }
    if asked.background {
        lines.push("background".to_owned());
    }
    if !asked.store {
        lines.push("not stored".to_owned());
    }
    lines.push(format!("{:?}", asked.turn.base));
    lines.extend(turn(&asked.turn));
    if !asked.ignored.is_empty() {
        lines.push(format!("ignored {}", asked.ignored.join(", ")));
    }
    lines.join("\n  ")
}

#[test]
fn requests_for_responses_become_the_turns_they_mean() {
    insta::assert_snapshot!(told("responses", line), @r#"
    ai-sdk-openai generate-object
      Unsupported Some("text")
    ai-sdk-openai generate-text
      Nothing
      instructions "Be brief."
      history User "Orders?"
      history Assistant "Three."
      prompt User "And 2025?"
    ai-sdk-openai previous
      UnknownResponse None
    ai-sdk-openai stream-text
      stream
      Nothing
      prompt User "Orders?"
    ai-sdk-openai tools-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region":"North"}) as call_80
      prompt Tool "{\"orders\":3}" answers call_80
      ignored tools, tool_choice
    ai-sdk-openai two-turns-2
      InvalidValue Some("input[1].id")
    instructor tools
      Unsupported Some("text")
    langchain-js invoke-2
      Nothing
      history User "Orders?"
      history Assistant "North leads."
      prompt User "And 2025?"
    langchain-js structured
      Unsupported Some("text")
    langchain-js tools-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region": "North"}) as call_160
      prompt Tool "3" answers call_160
      ignored tools
    langchain-python invoke-2
      Nothing
      history User "Orders by region?"
      history Assistant "North leads."
      prompt User "And 2025?"
    langchain-python previous-2
      UnknownResponse None
    langchain-python structured
      Unsupported Some("text")
    langchain-python tools-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region": "North"}) as call_450
      prompt Tool "3" answers call_450
      ignored tools
    langchain-python tools-v1-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region":"North"}) as call_470
      prompt Tool "3" answers call_470
      ignored tools
    litellm create
      Nothing
      prompt User "Orders?"
    litellm parse
      Unsupported Some("text")
    llm continue-2
      stream
      not stored
      Nothing
      history User "Orders?"
      history Assistant "North leads."
      prompt User "And 2025?"
    llm schema
      Unsupported Some("text")
    llm tools-2
      stream
      not stored
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region": "North"}) as call_220
      prompt Tool "3" answers call_220
      ignored tools
    openai-node background-3
      POST /v1/responses/resp_00000033/cancel
    openai-node background-4
      DELETE /v1/responses/resp_00000033
    openai-node background-stream
      stream
      background
      Nothing
      prompt User "Orders?"
    openai-node background
      background
      Nothing
      prompt User "Orders?"
    openai-node conversation-2
      Conversation
      prompt User "Orders?"
      handle conv_1
    openai-node create
      Nothing
      prompt User "Orders by region?"
    openai-node input-items
      Paging { limit: 20, order: Ascending, after: None }
    openai-node parse
      Unsupported Some("text")
    openai-node previous-2
      UnknownResponse None
    openai-node resent-2
      Nothing
      history User "Orders?"
      history Assistant "North leads."
      prompt User "And 2025?"
    openai-node retrieve-stream
      Retrieval { stream: true, starting_after: Some(2) }
    openai-node stream-helper-resume
      Retrieval { stream: true, starting_after: None }
    openai-node stream-helper
      stream
      Nothing
      prompt User "Orders?"
    openai-node tools-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region": "North"}) as call_310
      prompt Tool "3" answers call_310
      ignored tools
    openai-node tools
      Nothing
      prompt User "Orders in the north?"
      ignored tools
    openai-python background-2
      Retrieval { stream: false, starting_after: None }
    openai-python background-3
      POST /v1/responses/resp_00000018/cancel
    openai-python background-4
      DELETE /v1/responses/resp_00000018
    openai-python background
      background
      Nothing
      prompt User "Orders?"
    openai-python conversation-2
      Conversation
      prompt User "Orders?"
      handle conv_1
    openai-python create
      Nothing
      prompt User "Orders by region?"
    openai-python input-items
      Paging { limit: 2, order: Ascending, after: None }
    openai-python input-tokens
      10 tokens
    openai-python items
      not stored
      Nothing
      instructions "Be brief."
      history User "Revenue by region?"
      history Assistant "North leads."
      prompt User "And only for 2025?"
      stop [], at most Some(200)
      ignored include, truncation
    openai-python json-object
      Unsupported Some("text")
    openai-python parse-stream
      Unsupported Some("text")
    openai-python parse
      Unsupported Some("text")
    openai-python previous-2
      UnknownResponse None
    openai-python resent-2
      Nothing
      history User "Orders by region?"
      history Assistant "North leads."
      prompt User "And for 2025?"
    openai-python retrieve-stream
      Retrieval { stream: true, starting_after: Some(2) }
    openai-python stream-helper
      stream
      Nothing
      prompt User "Orders?"
    openai-python stream
      stream
      Nothing
      prompt User "Orders?"
    openai-python tool-named
      Unsupported Some("tool_choice")
    openai-python tools-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region": "North"}) as call_130
      prompt Tool "3" answers call_130
      ignored tools
    openai-python tools-previous-2
      UnknownResponse None
    openai-python tools-previous
      Unsupported Some("tool_choice")
    openai-python tools
      Nothing
      prompt User "Orders in the north?"
      ignored tools
    pydantic-ai output-native
      Unsupported Some("text")
    pydantic-ai output
      Unsupported Some("tool_choice")
    pydantic-ai text-2
      Nothing
      instructions "Be brief."
      history User "Orders by region?"
      history Assistant "North leads."
      prompt User "And 2025?"
    pydantic-ai tools-2
      Nothing
      history User "Orders in the north?"
      history Assistant "" calls orders({"region":"North"}) as call_540
      prompt Tool "3" answers call_540
      ignored tool_choice, tools
    "#);
}
