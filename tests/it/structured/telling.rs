//! What a thread is told of the form of answers, and how a conversation goes on over them.

use serde_json::{Value, json};

use super::{adding, number, proxy};
use crate::proxy::{Proxy, Reply, request};
use crate::talk::{Talk, decision, finish_reason, posted, said, soon};

/// What stands behind the prompt of each message.
fn tails(proxy: &Proxy, thread: usize) -> Vec<String> {
    let posts = &posted(proxy)[thread];
    let tail = |post: &String| match post.split_once("\n\n---\n\n") {
        Some((_, tail)) => tail.to_owned(),
        None => String::new(),
    };
    posts.iter().map(tail).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_told_a_form_whole_once_then_reminded_and_told_once_that_it_is_over() {
    let proxy = proxy(&[("", soon("{\"n\": 1}"))]);
    let mut talk = Talk::new(&proxy);

    for fields in [number(), number(), json!({}), json!({}), number()] {
        talk.fields = fields;
        talk.says("and now?").await;
    }

    let tails = tails(&proxy, 0);
    assert_eq!(tails.len(), 5);
    assert!(tails[0].starts_with("Answer format:") && tails[0].contains("\"integer\""));
    assert!(tails[1].starts_with("Answer format:") && !tails[1].contains("\"integer\""));
    assert_eq!(
        tails[2],
        "The answer format and the functions that were named earlier no longer apply."
    );
    assert_eq!(tails[3], "");
    assert_eq!(tails[4], tails[0]);
}

#[tokio::test(start_paused = true)]
async fn another_form_is_told_whole() {
    let proxy = proxy(&[("", soon("{\"n\": 1}"))]);
    let mut talk = Talk::new(&proxy).fields(number());
    talk.says("one").await;

    talk.fields = json!({"response_format": {"type": "json_object"}});
    talk.says("two").await;

    let tails = tails(&proxy, 0);
    assert_ne!(tails[0], tails[1]);
    assert!(tails[1].starts_with("Answer format:"), "{tails:?}");
}

#[tokio::test(start_paused = true)]
async fn the_form_stands_behind_the_prompt_and_the_prompt_behind_all_that_leads_it() {
    let proxy = proxy(&[("", soon("{\"n\": 1}"))]);
    let mut talk = Talk::new(&proxy).fields(number());
    talk.messages = vec![
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "hi"}),
        json!({"role": "assistant", "content": "Hello!"}),
    ];

    talk.says("how many?").await;

    let post = &posted(&proxy)[0][0];
    let blocks: Vec<&str> = post.split("\n\n---\n\n").collect();
    let [instructions, earlier, prompt, form] = blocks[..] else {
        panic!("{post}");
    };
    assert!(instructions.starts_with("Instructions:"));
    assert!(earlier.starts_with("Earlier conversation:"));
    assert_eq!(prompt, "how many?");
    assert!(form.starts_with("Answer format:"));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_form() {
    let proxy = proxy(&[]);
    let mut body = json!({
        "model": "chaturdata",
        "messages": [{"role": "user", "content": "how many?"}],
    });
    body["response_format"] = number()["response_format"].clone();
    let headers = [
        ("content-type", "application/json"),
        ("x-dry-run", "decision"),
    ];

    let path = "/v1/chat/completions";
    let planned = proxy
        .ask(request("POST", path, &headers, &body.to_string()))
        .await;
    let asked = proxy.post_json(path, &body).await;

    assert_eq!(
        planned.body["posts"],
        posted(&proxy)[0][0],
        "{}",
        asked.text
    );
}

#[tokio::test(start_paused = true)]
async fn a_history_of_json_answers_appends() {
    let proxy = proxy(&[("", soon("So:\n\n```\n{\"n\":  1}\n```"))]);
    let mut talk = Talk::new(&proxy).fields(number());
    let first = talk.says("one").await;

    let second = talk.says("two").await;

    assert_eq!(said(&first), "{\"n\":  1}");
    assert_eq!(decision(&second), "appended");
}

/// The calls of an answer.
fn called(reply: &Reply) -> &Value {
    assert_eq!(finish_reason(reply), "tool_calls", "{}", reply.text);
    &reply.body["choices"][0]["message"]["tool_calls"]
}

#[tokio::test(start_paused = true)]
async fn a_loop_over_functions_goes_on_in_one_thread() {
    let call = "{\"tool_calls\": [{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}]}";
    let proxy = proxy(&[("Result of add: 3", soon("It is three.")), ("", soon(call))]);
    let mut messages = vec![json!({"role": "user", "content": "what is 1 and 2?"})];
    let mut body = json!({"model": "chaturdata", "messages": messages});
    for (name, value) in adding("auto").as_object().unwrap() {
        body[name] = value.clone();
    }
    let first = proxy.post_json("/v1/chat/completions", &body).await;
    let calls = called(&first).clone();
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));

    messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
    messages.push(json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "3"}));
    body["messages"] = json!(messages);
    let second = proxy.post_json("/v1/chat/completions", &body).await;

    assert_eq!(said(&second), "It is three.");
    assert_eq!(decision(&second), "appended");
    let posts = &posted(&proxy)[0];
    assert!(
        posts[1].starts_with("Result of add: 3\n\n---\n\nTools:"),
        "{}",
        posts[1]
    );
}
