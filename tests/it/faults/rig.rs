//! A caller, the proxy, a meddler and the sandbox over HTTP, all in one process but on real sockets.

use std::sync::Arc;
use std::time::Duration;

use chaturdata_proxy::config::Config;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::server::{Access, Limits, SandboxService, Stop, serve};
use chaturdata_proxy::upstream::chaturdata::ChatUrData;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::meddler::{Meddler, spawn};
use crate::proxy::{Proxy, Setup, frames, request};

pub const KEY: &str = "sk-of-a-caller";

/// Every call of the upstream ends after this.
const PATIENCE: Duration = Duration::from_secs(3);
/// Every request ends after this.
const DEADLINE: Duration = Duration::from_secs(40);
/// What a busy machine may add.
const MARGIN: Duration = Duration::from_secs(60);

pub struct Rig {
    pub sandbox: Sandbox,
    pub meddler: Meddler,
    pub proxy: Proxy,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Answered(String),
    /// An error in the envelope, by its code.
    Told(String),
    /// None of the ways in which a request may end.
    Odd(String),
}

impl Rig {
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let reciting = Behaviour {
            recites: true,
            growth: 2,
            reply_after: Some(Duration::from_millis(30)),
            ..Behaviour::default()
        };
        let sandbox = Sandbox::new(Script::always(reciting));
        let meddler = Meddler::before(&serving(sandbox.clone()).await).await;
        let mut setup = Setup::quick();
        setup.access = Access::PassThrough;
        let config = &mut setup.config;
        config.run.deadline = DEADLINE;
        config.upstream.url.clone_from(&meddler.url);
        config.upstream.post_timeout = PATIENCE;
        config.upstream.read_timeout = PATIENCE;
        change(config);
        let upstream = Arc::new(ChatUrData::new(&config.upstream).unwrap());
        let proxy = Proxy::over(setup, sandbox.clone(), upstream);
        Self {
            sandbox,
            meddler,
            proxy,
        }
    }

    /// Asks with the history before it, and waits for the one end that must come in time.
    pub async fn ask(&self, messages: &[Value], stream: bool) -> End {
        let asked = timeout(DEADLINE + MARGIN, self.end(messages, stream));
        let late = End::Odd("no end by the deadline".to_owned());
        asked.await.unwrap_or(late)
    }

    async fn end(&self, messages: &[Value], stream: bool) -> End {
        let body = json!({"model": "chaturdata", "stream": stream, "messages": messages});
        let key = format!("Bearer {KEY}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", key.as_str()),
        ];
        let body = body.to_string();
        let request = request("POST", "/v1/chat/completions", &headers, &body);
        let (head, mut body) = self.proxy.send(request).await.into_parts();
        let mut text = String::new();
        let mut broken = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(str::from_utf8(&frame.into_data().unwrap()).unwrap()),
                Err(_) => broken = true,
            }
        }
        let streams = head.headers["content-type"] == "text/event-stream";
        let end = match streams {
            true => end_of_stream(&text, broken),
            false => end_of_answer(head.status.as_u16(), &text),
        };
        end.unwrap_or_else(|| End::Odd(format!("{} {broken} {text}", head.status)))
    }
}

/// The address of this sandbox over HTTP.
pub async fn serving(sandbox: Sandbox) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = Limits::new(&Config::default().server, Metrics::new().connections());
    let service = SandboxService(sandbox);
    spawn(serve(listener, service, limits, Stop::default()));
    address
}

fn end_of_answer(status: u16, text: &str) -> Option<End> {
    let body: Value = serde_json::from_str(text).ok()?;
    if status == 200 {
        let said = body["choices"][0]["message"]["content"].as_str()?;
        return Some(End::Answered(said.to_owned()));
    }
    told(&body)
}

fn end_of_stream(text: &str, broken: bool) -> Option<End> {
    let frames = frames(text);
    let last = frames.last()?;
    if last == "[DONE]" && !broken {
        let chunks = frames.iter().filter_map(|frame| {
            let chunk: Value = serde_json::from_str(frame).ok()?;
            Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
        });
        return Some(End::Answered(chunks.collect()));
    }
    let ended = frames.iter().any(|frame| frame == "[DONE]");
    told(&serde_json::from_str(last).ok()?).filter(|_| broken && !ended)
}

fn told(body: &Value) -> Option<End> {
    let error = body["error"].as_object()?;
    let keys: Vec<&str> = error.keys().map(String::as_str).collect();
    let told = End::Told(error["code"].as_str()?.to_owned());
    (keys == ["message", "type", "param", "code"]).then_some(told)
}
