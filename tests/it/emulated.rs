//! Typed answers and calls through the whole proxy, over the sandbox's sample data and its parts.

use std::time::Duration;

use chaturdata_proxy::config::AutoTools;
use chaturdata_proxy::upstream::sandbox::part::{Part, Spoilt};
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Rule, Script};
use serde_json::{Value, json};

use crate::proxy::{Proxy, Reply, Setup, Streamed, request};
use crate::talk::{Talk, decision, finish_reason, posted, said, told};

fn sale() -> Value {
    json!({
        "type": "object",
        "properties": {"region": {"type": "string"}, "revenue": {"type": "number"}},
        "required": ["region", "revenue"],
        "additionalProperties": false,
    })
}

fn format(schema: &Value) -> Value {
    json!({"response_format": {"type": "json_schema",
        "json_schema": {"name": "sale", "strict": true, "schema": schema}}})
}

fn weather() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}

fn plays(part: Part, spoilt: Spoilt) -> Behaviour {
    Behaviour {
        plays: Some(part),
        spoilt,
        reply_after: Some(Duration::from_secs(3)),
        ..Behaviour::default()
    }
}

/// The first message is met with the first behaviour, all others with the second.
fn script(first: Behaviour, others: Behaviour) -> Script {
    Script {
        rules: vec![Rule {
            times: Some(1),
            behaviour: first,
            ..Rule::default()
        }],
        behaviour: others,
        ..Script::default()
    }
}

fn met_with(script: Script) -> Proxy {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(script);
    proxy
}

fn call(reply: &Reply) -> &Value {
    &reply.body["choices"][0]["message"]["tool_calls"][0]
}

#[tokio::test(start_paused = true)]
async fn a_typed_answer_tells_true_figures() {
    let proxy = met_with(Script::default());
    let mut talk = Talk::new(&proxy).fields(format(&sale()));

    let first = talk.says("Which region has the highest revenue?").await;
    let second = talk.says("and the lowest?").await;

    let best: Value = serde_json::from_str(said(&first)).unwrap();
    let worst: Value = serde_json::from_str(said(&second)).unwrap();
    assert!(best["revenue"].as_f64() > worst["revenue"].as_f64());
    assert_ne!(best["region"], worst["region"]);
    assert_eq!(first.header("x-emulated"), "json");
    assert_eq!(decision(&second), "appended");
}

#[tokio::test(start_paused = true)]
async fn what_is_spoilt_is_read_or_mended_elsewhere() {
    for (spoilt, threads) in [
        (Spoilt::Prose, 1),
        (Spoilt::Fence, 1),
        (Spoilt::Broken, 2),
        (Spoilt::WrongType, 2),
    ] {
        let proxy = met_with(script(
            plays(Part::Json, spoilt),
            plays(Part::Json, Spoilt::No),
        ));
        let mut talk = Talk::new(&proxy).fields(format(&sale()));

        let first = talk.says("Sales?").await;
        let second = talk.says("And now?").await;

        assert_eq!(
            said(&first),
            r#"{"region":"unknown","revenue":0}"#,
            "{spoilt:?}"
        );
        assert_eq!(decision(&second), "appended", "{spoilt:?}");
        assert_eq!(posted(&proxy).len(), threads, "{spoilt:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mended_is_an_error_and_never_half_an_answer() {
    let proxy = met_with(Script::always(plays(Part::Json, Spoilt::WrongType)));

    let reply = Talk::new(&proxy)
        .fields(format(&sale()))
        .says("Sales?")
        .await;

    assert_eq!(
        told(&reply),
        "502 server_error structured_output_failed x-should-retry=false"
    );
    assert_eq!(reply.header("x-emulated"), "json");
    let message = reply.body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(r#"region: the value is not of type "string""#),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_called_and_its_result_is_answered() {
    let proxy = met_with(Script::default());
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let body = json!({"model": "chaturdata", "messages": [question], "tools": weather()});
    let first = proxy.post_json("/v1/chat/completions", &body).await;
    let called = call(&first).clone();

    let result = json!({"role": "tool", "tool_call_id": called["id"], "content": "sunny"});
    let message = first.body["choices"][0]["message"].clone();
    let body = json!({"model": "chaturdata", "messages": [question, message, result],
        "tools": weather()});
    let second = proxy.post_json("/v1/chat/completions", &body).await;

    assert_eq!(finish_reason(&first), "tool_calls");
    assert_eq!(first.header("x-emulated"), "tools");
    assert_eq!(called["function"]["arguments"], r#"{"city":"Paris"}"#);
    assert_eq!(said(&second), "get_weather says: sunny");
    assert_eq!(decision(&second), "appended");
}

#[tokio::test(start_paused = true)]
async fn functions_of_the_old_kind_are_called_in_the_old_way() {
    let proxy = met_with(Script::default());
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let functions = json!([weather()[0]["function"]]);
    let body = json!({"model": "chaturdata", "messages": [question], "functions": functions,
        "function_call": {"name": "get_weather"}});
    let first = proxy.post_json("/v1/chat/completions", &body).await;

    let result = json!({"role": "function", "name": "get_weather", "content": "sunny"});
    let message = first.body["choices"][0]["message"].clone();
    let body = json!({"model": "chaturdata", "messages": [question, message, result],
        "functions": functions});
    let second = proxy.post_json("/v1/chat/completions", &body).await;

    assert_eq!(finish_reason(&first), "function_call");
    assert_eq!(message["function_call"]["name"], "get_weather");
    assert_eq!(said(&second), "get_weather says: sunny");
    assert_eq!(decision(&second), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_nothing_before_it_is_whole() {
    let proxy = met_with(Script::always(Behaviour {
        growth: 5,
        ..plays(Part::Json, Spoilt::Prose)
    }));

    let streamed = Talk::new(&proxy)
        .fields(format(&sale()))
        .streams("Sales?")
        .await;

    assert_eq!(streamed.text(), r#"{"region":"unknown","revenue":0}"#);
    let texts = |frame: &&String| frame.contains(r#""content":"{"#);
    assert_eq!(streamed.frames.iter().filter(texts).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_are_streamed_whole() {
    let proxy = met_with(Script::default());
    let body = json!({"model": "chaturdata", "stream": true, "tools": weather(),
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}]});
    let headers = [("content-type", "application/json")];
    let request = request("POST", "/v1/chat/completions", &headers, &body.to_string());

    let streamed = Streamed::of(proxy.send(request).await).await;

    assert_eq!(streamed.text(), "");
    let calls = |frame: &&String| frame.contains(r#""tool_calls":[{"index":0,"id":"call_"#);
    assert_eq!(streamed.frames.iter().filter(calls).count(), 1);
    assert!(!streamed.broken);
}

#[tokio::test(start_paused = true)]
async fn tools_that_need_not_be_called_can_be_ignored_or_refused() {
    for (auto, told) in [(AutoTools::Ignore, "200 ? ?"), (AutoTools::Refuse, "400")] {
        let mut setup = Setup::default();
        setup.config.tools.auto = auto;
        let proxy = Proxy::start(setup);
        proxy.sandbox.set_script(Script::default());
        let fields = json!({"tools": weather()});

        let reply = Talk::new(&proxy)
            .fields(fields)
            .says("total revenue?")
            .await;

        assert!(self::told(&reply).starts_with(told), "{}", reply.text);
        assert_eq!(reply.header("x-emulated"), "");
        if auto == AutoTools::Ignore {
            assert_eq!(reply.header("x-ignored-params"), "tools");
        } else {
            assert_eq!(reply.body["error"]["param"], "tools");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_cannot_be_used_is_refused_before_anything_is_posted() {
    let proxy = met_with(Script::default());
    let schema = json!({"properties": {"a": {"$ref": "http://127.0.0.1:1/a.json"}}});

    let reply = Talk::new(&proxy)
        .fields(format(&schema))
        .says("Sales?")
        .await;

    assert_eq!(told(&reply), "400 invalid_request_error invalid_value");
    assert_eq!(
        reply.body["error"]["param"],
        "response_format.json_schema.schema.properties.a.$ref"
    );
    assert!(proxy.sandbox.posts().is_empty());
}
