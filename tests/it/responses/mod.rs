//! Responses: asked for, told, found again, cancelled and deleted.

mod answers;
mod background;
mod conversations;
mod following;
mod items;
mod stored;
mod streams;
mod tenants;
mod tools;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::proxy::{Proxy, Reply, Setup, request};

pub const PATH: &str = "/v1/responses";

/// A request as SDKs send it, with these fields on top.
pub fn asks(input: impl Into<Value>, fields: Value) -> Value {
    let mut body = json!({"model": "chaturdata", "input": input.into()});
    let Value::Object(fields) = fields else {
        unreachable!("fields are an object");
    };
    body.as_object_mut().unwrap().extend(fields);
    body
}

pub fn plain() -> Proxy {
    Proxy::start(Setup::default())
}

/// Someone with a key.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    proxy: &'a Proxy,
    key: &'static str,
}

impl<'a> Caller<'a> {
    pub fn new(proxy: &'a Proxy) -> Self {
        let key = "sk-caller";
        Self { proxy, key }
    }

    pub fn with_key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    pub fn request(self, method: &str, path: &str, body: &str) -> Request<Body> {
        let key = format!("Bearer {}", self.key);
        let headers = [
            ("authorization", key.as_str()),
            ("content-type", "application/json"),
        ];
        request(method, path, &headers, body)
    }

    pub async fn posts(self, path: &str, body: &Value) -> Reply {
        let request = self.request("POST", path, &body.to_string());
        self.proxy.ask(request).await
    }

    pub async fn asks(self, input: impl Into<Value>, fields: Value) -> Reply {
        self.posts(PATH, &asks(input, fields)).await
    }

    pub async fn gets(self, path: &str) -> Reply {
        self.proxy.ask(self.request("GET", path, "")).await
    }

    pub async fn deletes(self, path: &str) -> Reply {
        self.proxy.ask(self.request("DELETE", path, "")).await
    }

    /// A stream that was asked for, whole.
    pub async fn streams(self, input: impl Into<Value>, fields: Value) -> Events {
        let mut body = asks(input, fields);
        body["stream"] = json!(true);
        let request = self.request("POST", PATH, &body.to_string());
        Events::of(self.proxy.send(request).await).await
    }

    /// A stream of a response that is there.
    pub async fn follows(self, id: &str, after: Option<usize>) -> Events {
        let after = after.map_or(String::new(), |after| format!("&starting_after={after}"));
        let path = format!("{PATH}/{id}?stream=true{after}");
        Events::of(self.proxy.send(self.request("GET", &path, "")).await).await
    }
}

/// The events of a stream, in order.
#[derive(Debug)]
pub struct Events {
    pub data: Vec<Value>,
    pub broken: bool,
}

impl Events {
    pub async fn of(response: http::Response<Body>) -> Self {
        use http_body_util::BodyExt;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        let (mut text, mut broken) = (String::new(), false);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Err(_) => broken = true,
            }
        }
        let events = text.split_terminator("\n\n");
        let events = events.filter(|event| !event.starts_with(": "));
        let data = events.map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
            data
        });
        Self {
            data: data.collect(),
            broken,
        }
    }

    pub fn names(&self) -> Vec<&str> {
        let names = self.data.iter().map(|data| data["type"].as_str().unwrap());
        names
            .map(|name| name.trim_start_matches("response."))
            .collect()
    }

    pub fn id(&self) -> &str {
        self.data[0]["response"]["id"].as_str().unwrap()
    }

    pub fn last(&self) -> &Value {
        self.data.last().unwrap()
    }
}

pub fn id(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.body["id"].as_str().unwrap()
}

pub fn path(reply: &Reply) -> String {
    format!("{PATH}/{}", id(reply))
}

/// The text that SDKs call `output_text`.
pub fn said(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let text = &reply.body["output"][0]["content"][0]["text"];
    text.as_str().unwrap_or_default()
}

pub fn status(reply: &Reply) -> &str {
    reply.body["status"].as_str().unwrap_or_default()
}

pub fn decision(reply: &Reply) -> &str {
    reply.header("x-conversation-decision")
}

/// The texts that were posted upstream, in order.
pub fn posted(proxy: &Proxy) -> Vec<String> {
    let posts = proxy.sandbox.posts().into_iter();
    posts.map(|(_, text)| text).collect()
}
