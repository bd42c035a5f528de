//! Functions that are called and answered, however the request says what it follows on.

use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Rule, Script};
use serde_json::{Value, json};

use super::{Caller, PATH, decision, id, plain, posted, said};
use crate::proxy::{Proxy, Reply, Setup};
use crate::restarts::Home;
use crate::talk::soon;

const CALL: &str = r#"{"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]}"#;

/// An upstream that calls, until it is told what came of it.
fn script() -> Script {
    let rule = |when: &str, behaviour: Behaviour| Rule {
        when: when.to_owned(),
        times: None,
        behaviour,
    };
    Script {
        rules: vec![rule("Result of add: 3", soon("It is three."))],
        ..Script::always(soon(CALL))
    }
}

fn proxy() -> Proxy {
    let proxy = Proxy::start(Setup::default());
    proxy.sandbox.set_script(script());
    proxy
}

fn adding(fields: Value) -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    });
    let mut all = json!({"tools": [{"type": "function", "name": "add", "parameters": parameters}]});
    let Value::Object(fields) = fields else {
        unreachable!("fields are an object");
    };
    all.as_object_mut().unwrap().extend(fields);
    all
}

/// What came of the one call of an answer.
fn result(reply: &Reply) -> Value {
    let call = &reply.body["output"][0];
    assert_eq!(call["type"], "function_call", "{}", reply.text);
    json!([{"type": "function_call_output", "call_id": call["call_id"], "output": "3"}])
}

#[tokio::test(start_paused = true)]
async fn a_loop_comes_to_its_end_whatever_says_what_it_follows_on() {
    for (at_first, then) in [
        (json!({}), "previous_response_id"),
        (json!({"conversation": "sums"}), "conversation"),
        (json!({"conversation_id": "sums"}), "conversation_id"),
        (json!({"store": false}), "history"),
    ] {
        let proxy = proxy();
        let caller = Caller::new(&proxy);
        let question = json!([{"role": "user", "content": "what is 1 and 2?"}]);
        let first = caller.asks(question.clone(), adding(at_first)).await;
        let mut input = result(&first);
        let mut fields = json!({});
        match then {
            "previous_response_id" => fields[then] = json!(id(&first)),
            "history" => {
                let output = first.body["output"].as_array().unwrap();
                let input = input.as_array_mut().unwrap();
                let earlier = question.as_array().unwrap().iter().chain(output);
                input.splice(0..0, earlier.cloned());
            }
            name => fields[name] = json!("sums"),
        }

        let second = caller.asks(input, adding(fields)).await;

        assert_eq!(said(&second), "It is three.", "{then}");
        assert_eq!(decision(&second), "appended", "{then}");
        let posts = posted(&proxy);
        assert!(posts[1].starts_with("Result of add: 3\n\n---\n\nTools:"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_sends_only_what_a_function_returned_goes_on() {
    let proxy = proxy();
    let caller = Caller::new(&proxy);
    let path = "/v1/chat/completions";
    let function = adding(json!({}))["tools"][0].clone();
    let tools = json!([{"type": "function", "function": function}]);
    let asks = |message: Value| json!({"model": "m", "conversation": "sums", "tools": tools, "messages": [message]});
    let question = asks(json!({"role": "user", "content": "what is 1 and 2?"}));
    let first = caller.posts(path, &question).await;
    let call = &first.body["choices"][0]["message"]["tool_calls"][0]["id"];

    let result = asks(json!({"role": "tool", "tool_call_id": call, "content": "3"}));
    let second = caller.posts(path, &result).await;

    assert_eq!(crate::talk::said(&second), "It is three.");
}

#[tokio::test(start_paused = true)]
async fn a_loop_goes_on_after_a_restart() {
    let mut home = Home::new(script());
    let proxy = home.start();
    let first = Caller::new(&proxy)
        .asks("what is 1 and 2?", adding(json!({})))
        .await;
    home.kill(proxy).await;

    let proxy = home.start();
    let fields = adding(json!({"previous_response_id": id(&first)}));
    let second = Caller::new(&proxy).asks(result(&first), fields).await;

    assert_eq!(said(&second), "It is three.");
    assert_eq!(decision(&second), "appended");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_tells_what_is_posted_of_a_result() {
    let proxy = proxy();
    let caller = Caller::new(&proxy);
    let first = caller.asks("what is 1 and 2?", adding(json!({}))).await;
    let body = super::asks(result(&first), json!({"previous_response_id": id(&first)}));
    let mut dry = caller.request("POST", PATH, &body.to_string());
    dry.headers_mut()
        .insert("x-dry-run", "decision".parse().unwrap());

    let planned = proxy.ask(dry).await;
    caller.posts(PATH, &body).await;

    assert_eq!(planned.body["posts"], posted(&proxy)[1]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_a_result_is_mended_knowing_what_was_called() {
    let proxy = plain();
    let mut script = script();
    script.rules[0].behaviour = soon("not JSON");
    proxy.sandbox.set_script(script);
    let caller = Caller::new(&proxy);
    let first = caller.asks("what is 1 and 2?", adding(json!({}))).await;

    let json = json!({"previous_response_id": id(&first),
        "text": {"format": {"type": "json_object"}}});
    caller.asks(result(&first), json).await;

    let mending = &posted(&proxy)[2];
    assert!(mending.contains("The question was:\n\nResult of add: 3\n\n"));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_the_functions_is_counted_with_the_question() {
    let proxy = proxy();
    let caller = Caller::new(&proxy);
    let count = async |fields: Value| {
        let path = format!("{PATH}/input_tokens");
        let counted = caller.posts(&path, &super::asks("how much?", fields)).await;
        counted.body["input_tokens"].as_u64().unwrap()
    };

    let bare = count(json!({})).await;
    let counted = count(adding(json!({}))).await;
    let told = caller.asks("how much?", adding(json!({}))).await;
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "how much?"}],
        "tools": [{"type": "function", "function": adding(json!({}))["tools"][0]}]});
    let chat = caller.posts("/v1/chat/completions", &chat).await;

    assert!(counted > bare + 50, "{bare}, {counted}");
    assert_eq!(told.body["usage"]["input_tokens"], counted);
    assert_eq!(chat.body["usage"]["prompt_tokens"], counted);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_lists_calls_and_what_came_of_them() {
    let proxy = proxy();
    let caller = Caller::new(&proxy);
    let within = |fields: Value| {
        let mut fields = adding(fields);
        fields["conversation"] = json!("sums");
        fields
    };
    let first = caller.asks("what is 1 and 2?", within(json!({}))).await;
    caller.asks(result(&first), within(json!({}))).await;

    let path = "/v1/conversations/sums/items?order=asc";
    let items = caller.gets(path).await;

    serde_json::from_str::<async_openai::types::responses::ResponseItemList>(&items.text).unwrap();
    let [question, call, output, answer] = &items.body["data"].as_array().unwrap()[..] else {
        panic!("{}", items.text);
    };
    assert_eq!(question["content"][0]["text"], "what is 1 and 2?");
    assert_eq!(call["type"], "function_call");
    assert_eq!(call["name"], "add");
    assert_eq!(call["arguments"], r#"{"a": 1, "b": 2}"#);
    assert_eq!(output["type"], "function_call_output");
    assert_eq!(output["call_id"], call["call_id"]);
    assert_eq!(output["output"], "3");
    assert_eq!(answer["content"][0]["text"], "It is three.");
}
