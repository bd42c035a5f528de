//! Responses as clients read them.

use async_openai::types::responses::{
    DeleteResponse, Response as Strict, ResponseItemList, TokenCountsResource,
};
use chaturdata_proxy::ids::ResponseId;
use chaturdata_proxy::openai::Policy;
use chaturdata_proxy::openai::list::Paging;
use chaturdata_proxy::openai::responses::{
    Asked, Echo, Failure, Response, ResponseRequest, State, deleted, input_tokens,
};
use chaturdata_proxy::run::{self, Finish};
use serde_json::{Value, json};

use super::{ID, answer, told, with_calls, with_sources};
use crate::goldens::{envelope, goldens};

pub fn response() -> Response {
    Response {
        id: ID,
        created: 1_764_000_000,
        model: "chaturdata".to_owned(),
        background: false,
        previous: None,
        conversation: None,
        echo: Echo::default(),
        prompt_tokens: Some(8),
    }
}

fn failure() -> Failure {
    Failure::new(
        &run::Error::Failed(String::new()),
        "no table orders".to_owned(),
    )
}

/// The body, read as clients read it.
pub fn body(state: State<'_>) -> Value {
    told::<Strict>("Response", response().body(state))
}

/// A request that says all that a response says again.
fn outspoken() -> Value {
    json!({
        "model": "chaturdata", "input": "Hi", "instructions": "Be brief.", "temperature": 0.5,
        "top_p": 0.9, "max_output_tokens": 100, "max_tool_calls": 3, "truncation": "auto",
        "parallel_tool_calls": false, "metadata": {"team": "sales"}, "user": "u",
        "safety_identifier": "s", "prompt_cache_key": "p", "tool_choice": "auto",
        "reasoning": {"effort": "low"}, "text": {"verbosity": "low"},
        "tools": [{"type": "function", "name": "f", "description": "d"}],
    })
}

fn asked(body: &Value) -> Asked {
    let request: ResponseRequest = serde_json::from_value(body.clone()).unwrap();
    request
        .into_turn(envelope(&goldens("")[0]), &Policy::default())
        .unwrap()
}

#[test]
fn a_response_has_every_key_that_clients_look_for() {
    let body = body(State::Ended(&answer(Finish::Stop)));

    insta::assert_snapshot!(format!("{body:#}"), @r#"
    {
      "id": "resp_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7",
      "object": "response",
      "created_at": 1764000000,
      "status": "completed",
      "background": false,
      "error": null,
      "incomplete_details": null,
      "model": "chaturdata",
      "output": [
        {
          "type": "message",
          "id": "msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000",
          "status": "completed",
          "role": "assistant",
          "content": [
            {
              "type": "output_text",
              "text": "North\nleads — by \"far\".",
              "annotations": [],
              "logprobs": []
            }
          ]
        }
      ],
      "previous_response_id": null,
      "conversation": null,
      "instructions": null,
      "metadata": {},
      "temperature": null,
      "top_p": null,
      "max_output_tokens": null,
      "max_tool_calls": null,
      "parallel_tool_calls": true,
      "truncation": "disabled",
      "tool_choice": "auto",
      "tools": [],
      "text": {
        "format": {
          "type": "text"
        }
      },
      "usage": {
        "input_tokens": 8,
        "input_tokens_details": {
          "cached_tokens": 0,
          "cache_write_tokens": 0
        },
        "output_tokens": 8,
        "output_tokens_details": {
          "reasoning_tokens": 0
        },
        "total_tokens": 16
      }
    }
    "#);
}

#[test]
fn a_response_says_how_far_it_has_come() {
    let failure = failure();
    let (whole, cut) = (answer(Finish::Stop), answer(Finish::Length));
    for (state, status) in [
        (State::Queued, "queued"),
        (State::InProgress, "in_progress"),
        (State::Cancelled, "cancelled"),
        (State::Failed(&failure), "failed"),
        (State::Ended(&whole), "completed"),
        (State::Ended(&cut), "incomplete"),
    ] {
        let body = body(state);

        assert_eq!(body["status"], status);
        let has_ended = matches!(state, State::Ended(_));
        assert_eq!(body.get("usage").is_some(), has_ended, "{status}");
        assert_eq!(body["output"] == json!([]), !has_ended, "{status}");
        assert_eq!(body["error"].is_null(), status != "failed");
        let is_cut = status == "incomplete";
        assert_eq!(body["incomplete_details"].is_null(), !is_cut);
        if has_ended {
            assert_eq!(body["output"][0]["status"], status);
        }
    }
}

#[test]
fn a_failure_has_a_code_of_the_closed_list() {
    for (error, code) in [
        (run::Error::Failed(String::new()), "server_error"),
        (run::Error::Internal, "server_error"),
        (run::Error::Unformed(String::new()), "server_error"),
        (run::Error::RateLimited(None), "rate_limit_exceeded"),
        (run::Error::Refused(String::new()), "invalid_prompt"),
    ] {
        let failure = Failure::new(&error, error.to_string());

        let body = body(State::Failed(&failure));

        assert_eq!(body["error"]["code"], code);
        assert_eq!(body["error"]["message"], error.to_string());
    }
}

#[test]
fn calls_are_items_of_their_own() {
    let body = body(State::Ended(&with_calls()));

    insta::assert_snapshot!(format!("{:#}", body["output"]), @r#"
    [
      {
        "type": "function_call",
        "id": "fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000000",
        "call_id": "call_1",
        "name": "orders",
        "arguments": "{\"region\":\"North\"}",
        "status": "completed"
      },
      {
        "type": "function_call",
        "id": "fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a780000001",
        "call_id": "call_2",
        "name": "orders",
        "arguments": "{\"region\":\"South\"}",
        "status": "completed"
      }
    ]
    "#);
}

#[test]
fn sources_are_told_as_far_as_the_text_goes() {
    let body = body(State::Ended(&with_sources()));

    assert_eq!(
        body["output"][0]["content"][0]["annotations"],
        json!([{"type": "url_citation", "start_index": 0, "end_index": 5, "title": "Q2",
            "url": "https://reports.example/q2"}])
    );
}

#[test]
fn a_response_says_again_what_its_request_said() {
    let response = Response {
        background: true,
        previous: Some(ResponseId([1; 16])),
        conversation: Some("conv_1".to_owned()),
        echo: asked(&outspoken()).echo,
        ..response()
    };

    let body = told::<Strict>("Response", response.body(State::InProgress));

    for (name, value) in outspoken().as_object().unwrap() {
        match name.as_str() {
            "input" => {}
            "text" => assert_eq!(
                body["text"],
                json!({"verbosity": "low", "format": {"type": "text"}})
            ),
            "tools" => assert_eq!(
                body["tools"],
                json!([{"type": "function", "name": "f", "description": "d", "parameters": null,
                    "strict": true}])
            ),
            _ => assert_eq!(&body[name], value, "{name}"),
        }
    }
    assert_eq!(
        body["previous_response_id"],
        "resp_01010101010101010101010101010101"
    );
    assert_eq!(body["conversation"], json!({"id": "conv_1"}));
    assert_eq!(body["background"], true);
}

#[test]
fn what_is_forgotten_is_not_made_up() {
    let response = Response {
        prompt_tokens: None,
        ..response()
    };

    let body = told::<Strict>(
        "Response",
        response.body(State::Ended(&answer(Finish::Stop))),
    );

    assert_eq!(body.get("usage"), None);
    assert_eq!(body["instructions"], Value::Null);
    assert_eq!(body["metadata"], json!({}));
    assert_eq!(body["tools"], json!([]));
}

#[test]
fn a_value_that_openai_would_not_take_is_not_said_again() {
    let mut body = outspoken();
    body["temperature"] = json!(7);
    body["top_p"] = json!("a");
    body["user"] = json!(5);
    body["safety_identifier"] = json!("s".repeat(65));
    let response = Response {
        echo: asked(&body).echo,
        ..response()
    };

    let told = told::<Strict>("Response", response.body(State::InProgress));

    assert_eq!(
        (&told["temperature"], &told["top_p"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (told.get("user"), told.get("safety_identifier")),
        (None, None)
    );
}

#[test]
fn the_input_is_told_as_items() {
    let asked = asked(&json!({"model": "m", "instructions": "i", "input": [
        {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"}]}));
    let query = [("order".to_owned(), "asc".to_owned())];

    let page = Paging::read(&query).unwrap().page(asked.input_items(ID));

    let page = told::<ResponseItemList>("ResponseItemList", page.unwrap());
    let kinds = page["data"].as_array().unwrap().iter();
    let kinds: Vec<_> = kinds
        .map(|item| [&item["type"], &item["role"], &item["id"]])
        .collect();
    insta::assert_snapshot!(json!(kinds).to_string(), @r#"[["message","system","msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a700000000"],["message","user","msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a700000001"],["message","assistant","msg_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a700000002"],["function_call",null,"fc_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a700000003"],["function_call_output",null,"fco_a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a700000004"]]"#);
}

#[test]
fn small_bodies_are_what_the_document_says() {
    told::<DeleteResponse>("DeletedResponse", deleted(ID));
    told::<TokenCountsResource>("TokenCountsResource", input_tokens(11));
}
