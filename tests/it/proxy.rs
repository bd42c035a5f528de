//! The proxy as tests use it: a built app, asked within the process or over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use chaturdata_proxy::config::{Config, Strategy};
use chaturdata_proxy::conversation::resolve::Secrets;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::metrics::Metrics;
use chaturdata_proxy::run::live::{Foundation, Runner};
use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::server::{self, Access, Limits, Stop};
use chaturdata_proxy::signal::Signal;
use chaturdata_proxy::store::Restored;
use chaturdata_proxy::store::backend::{Backend, Nowhere};
use chaturdata_proxy::store::callers::CallerKeys;
use chaturdata_proxy::upstream::Upstream;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{
    Answer, Behaviour, Content, Failure, Place, Post, Rule, Script, Step,
};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// Prompts that the upstream behind a [`Proxy`] answers in its own way; it echoes all others.
pub mod prompt {
    /// Text that comes in two pieces, `one` and, much later, ` two`.
    pub const GROWS: &str = "grow slowly";
    /// The run fails with the words `no table`.
    pub const FAILS: &str = "fail at once";
    /// The text `half` comes, then the run fails.
    pub const FAILS_HALFWAY: &str = "fail halfway";
    /// The upstream refuses the message.
    pub const REFUSED: &str = "be refused";
    /// As above, but only after a stream has to have begun.
    pub const REFUSED_LATE: &str = "be late and then refused";
    /// The upstream answers 401.
    pub const KEY_REFUSED: &str = "use a wrong key";
    /// No end comes.
    pub const SILENT: &str = "stay silent";
}

/// What differs from the defaults.
pub struct Setup {
    pub config: Config,
    pub access: Access,
    /// How long an upstream's moment is. Seconds suit a paused clock.
    pub moment: Duration,
    /// Where records outlive the process.
    pub state: Arc<dyn Backend>,
    pub salt: Salt,
    /// What an earlier process has left.
    pub restored: Restored,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        // Polls at times that a test can name.
        config.pace.strategy = Strategy::Fixed;
        Self {
            config,
            access: Access::Sandbox,
            moment: Duration::from_secs(1),
            state: Arc::new(Nowhere),
            salt: Salt::random().unwrap(),
            restored: Restored::default(),
        }
    }
}

impl Setup {
    /// For a real clock: everything takes milliseconds.
    pub fn quick() -> Self {
        let mut setup = Self {
            moment: Duration::from_millis(20),
            ..Self::default()
        };
        setup.config.pace.interval = Duration::from_millis(10);
        setup.config.pace.min_gap = Duration::from_millis(5);
        setup
    }

    fn script(&self) -> Script {
        let moment = self.moment;
        let shows = |at: u32, text: &str| Step {
            at: moment * at,
            reply: vec![Content::Text(text.to_owned())],
        };
        let failure = || {
            Some(Failure {
                words: "no table".to_owned(),
                place: Place::default(),
            })
        };
        let refuses = |answer| Behaviour {
            post: Post {
                answer,
                ..Post::default()
            },
            ..Behaviour::default()
        };
        let mut late = refuses(Answer::status(400));
        late.post.accept_after = moment * 8;
        let rules = [
            (
                prompt::GROWS,
                Behaviour {
                    steps: vec![shows(3, "one"), shows(25, "one two")],
                    ..Behaviour::says("one two", moment * 25)
                },
            ),
            (
                prompt::FAILS,
                Behaviour::ends("failed", failure(), moment * 3),
            ),
            (
                prompt::FAILS_HALFWAY,
                Behaviour {
                    steps: vec![shows(3, "half")],
                    ..Behaviour::ends("failed", failure(), moment * 12)
                },
            ),
            (prompt::REFUSED_LATE, late),
            (prompt::REFUSED, refuses(Answer::status(400))),
            (prompt::KEY_REFUSED, refuses(Answer::status(401))),
            (
                prompt::SILENT,
                Behaviour::says("", Duration::from_secs(100_000)),
            ),
        ];
        let rule = |(when, behaviour): (&str, Behaviour)| Rule {
            when: when.to_owned(),
            times: None,
            behaviour,
        };
        Script {
            rules: rules.into_iter().map(rule).collect(),
            ..Script::always(Behaviour::says("hello", moment * 2))
        }
    }
}

/// A built app in front of an upstream in this process.
pub struct Proxy {
    /// The upstream behind it.
    pub sandbox: Sandbox,
    pub runner: Runner,
    router: Router,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    stop: Stop,
    signal: Signal,
}

impl Proxy {
    pub fn start(setup: Setup) -> Self {
        let sandbox = Sandbox::new(setup.script());
        let upstream = Arc::new(sandbox.clone());
        Self::over(setup, sandbox, upstream)
    }

    /// One that reaches its sandbox by another way than a call within the process.
    pub fn over(setup: Setup, sandbox: Sandbox, upstream: Arc<dyn Upstream>) -> Self {
        let config = Arc::new(setup.config);
        let metrics = Arc::new(Metrics::new());
        let salt = setup.salt;
        let secrets = Secrets {
            salt: salt.clone(),
            ids: Salt::random().unwrap(),
        };
        let foundation = Foundation {
            backend: Arc::clone(&setup.state),
            restored: setup.restored,
            ..Foundation::in_memory(upstream, secrets, Arc::clone(&metrics))
        };
        let runner = Runner::new(&config, foundation);
        let signal = Signal::default();
        let stop = Stop::on(signal.clone());
        let router = server::router(server::Parts {
            config: Arc::clone(&config),
            runner: runner.clone(),
            access: setup.access,
            salt,
            metrics: Arc::clone(&metrics),
            state: setup.state,
            stop: stop.clone(),
        });
        Self {
            sandbox,
            runner,
            router,
            config,
            metrics,
            stop,
            signal,
        }
    }

    /// One that holds the upstream's key, and lets `sk-caller` in.
    pub fn holding_a_key() -> Self {
        let pair = ("caller".to_owned(), Secret::new("sk-caller"));
        Self::start(Setup {
            access: Access::Held {
                key: Secret::new("sk-upstream"),
                callers: CallerKeys::of([pair]),
                anyone: false,
            },
            ..Setup::default()
        })
    }

    pub fn passing_through() -> Self {
        Self::start(Setup {
            access: Access::PassThrough,
            ..Setup::default()
        })
    }

    /// The answer as its head comes; dropping it, or this future, is a hang-up.
    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn ask(&self, request: Request<Body>) -> Reply {
        Reply::of(self.send(request).await).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(request("GET", path, &[], "")).await
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.ask(request("POST", path, &headers, &body.to_string()))
            .await
    }

    pub async fn chat(&self, text: &str) -> Reply {
        self.post_json("/v1/chat/completions", &asking(text)).await
    }

    /// The response to a stream, as soon as it begins.
    pub async fn begin_stream(&self, text: &str) -> Response<Body> {
        self.send(stream_request(text)).await
    }

    /// Everything of a stream.
    pub async fn stream(&self, text: &str) -> Streamed {
        Streamed::of(self.begin_stream(text).await).await
    }

    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Serves on a port of its own.
    #[expect(clippy::disallowed_methods, reason = "the server runs beside the test")]
    pub async fn listening(self) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits::new(&self.config.server, self.metrics.connections());
        let served = tokio::spawn(server::serve(
            listener,
            self.router.clone(),
            limits,
            self.stop.clone(),
        ));
        Listening {
            proxy: self,
            address,
            served,
        }
    }
}

/// A proxy behind a real socket.
pub struct Listening {
    pub proxy: Proxy,
    pub address: SocketAddr,
    served: JoinHandle<()>,
}

impl Listening {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes back for these bytes until the proxy closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = self.connect().await;
        // It may close before it has read everything.
        let _ = socket.write_all(bytes).await;
        read_out(&mut socket).await
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) {
        self.begin_to_stop();
        self.stopped().await;
    }

    pub fn begin_to_stop(&self) {
        self.proxy.signal.give();
    }

    pub async fn stopped(self) {
        self.served.await.unwrap();
    }
}

/// Everything until the other side closes, however it does.
pub async fn read_out(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = socket.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("the proxy closes the connection");
    bytes
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    /// Null where it is not JSON.
    pub body: Value,
}

impl Reply {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// A whole stream.
#[derive(Debug)]
pub struct Streamed {
    pub headers: HeaderMap,
    /// The data of each event, and each comment with its colon.
    pub frames: Vec<String>,
    /// The body ended without its last chunk.
    pub broken: bool,
}

impl Streamed {
    pub async fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        let (parts, mut body) = response.into_parts();
        let mut text = String::new();
        let mut broken = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.push_str(str::from_utf8(&frame.into_data().unwrap()).unwrap()),
                Err(_) => broken = true,
            }
        }
        Self {
            headers: parts.headers,
            frames: frames(&text),
            broken,
        }
    }

    /// The text of all deltas.
    pub fn text(&self) -> String {
        let deltas = self.frames.iter().filter_map(|frame| {
            let chunk: Value = serde_json::from_str(frame).ok()?;
            Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())
        });
        deltas.collect()
    }

    /// The error that the stream ended in.
    pub fn error(&self) -> Value {
        let last = self.frames.last().unwrap();
        serde_json::from_str::<Value>(last).unwrap_or_default()["error"].clone()
    }
}

/// The events of a stream, each as its data.
pub fn frames(text: &str) -> Vec<String> {
    text.split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").unwrap_or(event).to_owned())
        .collect()
}

pub fn asking(text: &str) -> Value {
    json!({"model": "chaturdata", "messages": [{"role": "user", "content": text}]})
}

pub fn stream_request(text: &str) -> Request<Body> {
    let mut body = asking(text);
    body["stream"] = json!(true);
    let headers = [("content-type", "application/json")];
    request("POST", "/v1/chat/completions", &headers, &body.to_string())
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:8484");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

/// Every route, and a body for those that want one.
pub const ROUTES: [(&str, &str); 35] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/openai/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/completions"),
    ("POST", "/openai/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/responses"),
    ("POST", "/openai/v1/responses"),
    ("GET", "/v1/responses/resp_1"),
    ("DELETE", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/resp_1/cancel"),
    ("GET", "/v1/responses/resp_1/input_items"),
    ("POST", "/v1/responses/input_tokens"),
    ("POST", "/v1/conversations"),
    ("POST", "/conversations"),
    ("GET", "/openai/v1/conversations/c"),
    ("POST", "/v1/conversations/c"),
    ("DELETE", "/v1/conversations/c"),
    ("GET", "/v1/conversations/c/items"),
    ("POST", "/v1/conversations/c/items"),
    ("GET", "/v1/conversations/c/items/msg_1"),
    ("DELETE", "/v1/conversations/c/items/msg_1"),
    ("GET", "/v1/models"),
    ("GET", "/models"),
    ("GET", "/openai/v1/models"),
    ("GET", "/v1/models/vendor/model"),
    ("GET", "/models/x"),
    ("GET", "/openai/v1/models/x"),
    ("GET", "/v1/capabilities"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
    ("DELETE", "/v1/models"),
];
