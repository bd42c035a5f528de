//! The forms of answers that real clients ask for.

use std::collections::BTreeMap;

use chaturdata_proxy::form::{Form, Kind};
use chaturdata_proxy::openai::Policy;
use chaturdata_proxy::openai::responses::ResponseRequest;

use crate::goldens::{Golden, asked, envelope, goldens};

/// The form of a request, and what of it is told as ignored.
fn form(golden: &Golden) -> String {
    let (turn, choices, ignored) = if golden.path.ends_with("/chat/completions") {
        let asked = asked(golden).unwrap();
        (asked.turn, asked.choices, asked.ignored)
    } else {
        let request: ResponseRequest = serde_json::from_str(&golden.body.to_string()).unwrap();
        match request.into_turn(envelope(golden), &Policy::default()) {
            Ok(asked) => (asked.turn, 1, asked.ignored),
            // It goes on from what another server answered.
            Err(error) => return format!("{:?}", error.reason),
        }
    };
    let kind = turn.form.as_deref().map_or(Kind::Text, Form::kind);
    let demand = turn.form.as_deref().map_or("", |form| {
        let last = form.block().rsplit(". ").next().unwrap_or_default();
        if last.starts_with("This answer must") {
            last
        } else {
            ""
        }
    });
    let choices = if choices > 1 {
        format!("{choices} of ")
    } else {
        String::new()
    };
    format!("{choices}{kind:?} {demand} {}", ignored.join(", "))
        .trim()
        .to_owned()
}

/// The cases of each client, by the form that they ask for.
fn forms_in(folder: &str) -> String {
    let mut forms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for golden in goldens(folder) {
        let case = format!("{} {}", golden.client, golden.case);
        if golden.body.get("messages").is_some() || golden.body.get("input").is_some() {
            forms.entry(form(&golden)).or_default().push(case);
        }
    }
    let forms = forms.into_iter();
    forms
        .map(|(form, cases)| format!("{form}\n  {}\n", cases.join("\n  ")))
        .collect()
}

#[test]
fn chats_of_real_clients_ask_for_forms() {
    insta::assert_snapshot!(forms_in("emulated"), @"
    3 of Text
      litellm n
      openai-node n
      openai-python n
    Calls
      ai-sdk-compatible tools-2
      ai-sdk-compatible tools-stream-2
      instructor parallel
      langchain-js agent-2
      langchain-js tools-2
      langchain-python agent-2
      langchain-python tools-2
      litellm tools-2
      llm tools-2
      openai-node run-tools-2
      openai-node run-tools
      openai-python tools-2
      openai-python tools
      pydantic-ai output-or-text
      pydantic-ai tools-2
    Calls  temperature
      llama-index tools-2
    Calls This answer must call a function.
      ai-sdk-compatible tools-required
      langchain-js tools-any
      langchain-python agent-structured-2
      langchain-python tools-any
      openai-node tools-zod
      openai-python tools-parse
      pydantic-ai output
      pydantic-ai tools-output-2
      pydantic-ai tools-output-3
    Calls This answer must call a function. temperature
      llama-index structured
    Calls This answer must call the function IterableSale.
      instructor tools-iterable
    Calls This answer must call the function PartialSale.
      instructor tools-partial
    Calls This answer must call the function Sale.
      instructor tools
      langchain-python structured-function
    Calls This answer must call the function Upper.
      instructor tools-again-2
    Calls This answer must call the function orders.
      langchain-python tools-named
    Calls This answer must call the function sale.
      langchain-js structured-function
    Json
      ai-sdk-compatible generate-object-structured
      ai-sdk-compatible generate-object
      ai-sdk-compatible stream-object
      instructor json-again-2
      instructor json-schema
      instructor json
      langchain-js structured-json
      langchain-js structured
      langchain-python structured-dict
      langchain-python structured-json
      langchain-python structured-stream
      langchain-python structured
      litellm json-object
      litellm response-format
      llm schema
      openai-node parse
      openai-python json-object
      openai-python parse-stream
      openai-python parse
      pydantic-ai output-native
      pydantic-ai output-prompted
    Json  temperature
      llama-index structured-native
    Text  temperature, tool_choice
      llama-index structured-text
    ");
}

#[test]
fn responses_of_real_clients_ask_for_forms() {
    insta::assert_snapshot!(forms_in("responses"), @"
    Calls
      ai-sdk-openai tools-2
      langchain-js tools-2
      langchain-python tools-2
      langchain-python tools-v1-2
      llm tools-2
      openai-node tools-2
      openai-node tools
      openai-python tools-2
      openai-python tools
      pydantic-ai tools-2
    Calls This answer must call a function.
      openai-python tools-previous
      pydantic-ai output
    Calls This answer must call the function Sale.
      instructor tools
    Calls This answer must call the function orders.
      openai-python tool-named
    InvalidValue
      ai-sdk-openai two-turns-2
    Json
      ai-sdk-openai generate-object
      langchain-js structured
      langchain-python structured
      litellm parse
      llm schema
      openai-node parse
      openai-python json-object
      openai-python parse-stream
      openai-python parse
      pydantic-ai output-native
    Text
      ai-sdk-openai generate-text
      ai-sdk-openai stream-text
      langchain-js invoke-2
      langchain-python invoke-2
      litellm create
      llm continue-2
      openai-node background-stream
      openai-node background
      openai-node conversation-2
      openai-node create
      openai-node resent-2
      openai-node stream-helper
      openai-python background
      openai-python conversation-2
      openai-python create
      openai-python input-tokens
      openai-python resent-2
      openai-python stream-helper
      openai-python stream
      pydantic-ai text-2
    Text  include, truncation
      openai-python items
    UnknownResponse
      ai-sdk-openai previous
      langchain-python previous-2
      openai-node previous-2
      openai-python previous-2
      openai-python tools-previous-2
    ");
}
