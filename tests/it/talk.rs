//! A caller that resends its whole history, as SDKs do, and what it can see of an upstream.

use std::time::Duration;

use axum::body::Body;
use chaturdata_proxy::upstream::sandbox::Kind;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Canned, Post, Rule, Script, Step,
};
use chaturdata_proxy::upstream::sandbox::{Seen, script::Content};
use http::Request;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Reply, Streamed, request};

/// One conversation of one caller.
pub struct Talk<'a> {
    proxy: &'a Proxy,
    headers: Vec<(&'static str, String)>,
    /// Fields of every request beside the messages.
    pub fields: Value,
    pub messages: Vec<Value>,
}

impl<'a> Talk<'a> {
    pub fn new(proxy: &'a Proxy) -> Self {
        Self {
            proxy,
            headers: vec![("content-type", "application/json".to_owned())],
            fields: json!({}),
            messages: Vec::new(),
        }
    }

    /// With a header on every request.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With fields in every request.
    pub fn fields(mut self, fields: Value) -> Self {
        self.fields = fields;
        self
    }

    /// Says something, and remembers it with its answer if there is one.
    pub async fn says(&mut self, text: &str) -> Reply {
        let reply = self.proxy.ask(self.request(text, false)).await;
        if reply.status == 200 {
            let said = reply.body["choices"][0]["message"]["content"].clone();
            self.remember(text, &said);
        }
        reply
    }

    /// As above, to an upstream that does this to it.
    pub async fn is_met(&mut self, text: &str, behaviour: Behaviour) -> Reply {
        self.proxy.sandbox.set_script(Script::always(behaviour));
        self.says(text).await
    }

    /// Says something, and reads the answer as a stream to its end.
    pub async fn streams(&mut self, text: &str) -> Streamed {
        let response = self.proxy.send(self.request(text, true)).await;
        let streamed = Streamed::of(response).await;
        if !streamed.broken {
            self.remember(text, &json!(streamed.text()));
        }
        streamed
    }

    pub fn request(&self, text: &str, stream: bool) -> Request<Body> {
        let mut messages = self.messages.clone();
        messages.push(json!({"role": "user", "content": text}));
        let mut body = json!({"model": "chaturdata", "messages": messages, "stream": stream});
        for (name, value) in self.fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        request("POST", "/v1/chat/completions", &headers, &body.to_string())
    }

    pub fn remember(&mut self, text: &str, said: &Value) {
        self.messages.push(json!({"role": "user", "content": text}));
        self.messages
            .push(json!({"role": "assistant", "content": said}));
    }
}

/// The text of an answer.
pub fn said(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.body["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
}

pub fn finish_reason(reply: &Reply) -> &str {
    reply.body["choices"][0]["finish_reason"]
        .as_str()
        .unwrap_or_default()
}

/// How this answer's thread was found.
pub fn decision(reply: &Reply) -> &str {
    reply.header("x-conversation-decision")
}

/// An error in one line: all that a caller's retries go by.
pub fn told(reply: &Reply) -> String {
    let error = &reply.body["error"];
    let mut line = format!(
        "{} {} {}",
        reply.status.as_u16(),
        error["type"].as_str().unwrap_or("?"),
        error["code"].as_str().unwrap_or("?"),
    );
    for name in ["x-should-retry", "retry-after"] {
        let value = reply.header(name);
        if !value.is_empty() {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}

/// The upstream's own words, as the caller is told them.
pub fn message(reply: &Reply) -> &str {
    reply.body["error"]["message"].as_str().unwrap_or_default()
}

/// The texts that reached each thread, in the order of the threads.
pub fn posted(proxy: &Proxy) -> Vec<Vec<String>> {
    let posts = proxy.sandbox.posts();
    let on = |thread| {
        let here = posts.iter().filter(move |(on, _)| *on == thread);
        here.map(|(_, text)| text.clone()).collect()
    };
    proxy.sandbox.threads().into_iter().map(on).collect()
}

/// The calls of one kind that the upstream has had.
pub fn calls(proxy: &Proxy, kind: Kind) -> Vec<Seen> {
    let mut calls = proxy.sandbox.calls();
    calls.retain(|call| call.kind == kind);
    calls
}

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A run that completes with this text a second after its acceptance: the first poll shows it.
pub fn soon(text: &str) -> Behaviour {
    Behaviour::says(text, seconds(1))
}

/// What the run shows from so many seconds on.
pub fn shows(at: u64, text: &str) -> Step {
    Step {
        at: seconds(at),
        reply: vec![Content::Text(text.to_owned())],
    }
}

/// A POST that is answered so.
pub fn answers(answer: Answer) -> Behaviour {
    Behaviour {
        post: Post {
            answer,
            ..Post::default()
        },
        ..soon("an answer")
    }
}

/// An answer that asks for patience.
pub fn busy(status: u16, retry_after: Option<&str>) -> Answer {
    Answer::Canned(Canned {
        status,
        retry_after: retry_after.map(str::to_owned),
        ..Canned::default()
    })
}

/// The first POSTs go so, the others otherwise.
pub fn first(times: u32, behaviour: Behaviour, others: Behaviour) -> Script {
    Script {
        rules: vec![Rule {
            when: String::new(),
            times: Some(times),
            behaviour,
        }],
        ..Script::always(others)
    }
}
