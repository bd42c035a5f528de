//! The edge: connections, routes and layers; each request becomes a turn, each run an answer.

mod admission;
mod auth;
mod bodies;
mod chat;
mod choices;
mod completions;
mod conversations;
mod echoes;
mod envelope;
mod error;
mod exchange;
mod extract;
mod guard;
mod listener;
mod log;
mod models;
mod refusal;
mod reply;
mod responses;
mod sandbox;
mod sse;
mod status;
mod turn;

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{FromRef, Request};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::Method;
use http::header::RETRY_AFTER;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::error;

pub use auth::Access;
pub use listener::{Limits, Outbox, Owed, Peer, Receipt, Stop, serve};
pub use sandbox::SandboxService;

use crate::config::Config;
use crate::conversation::salt::Salt;
use crate::metrics::Metrics;
use crate::openai::{Head, Policy};
use crate::run::live::Runner;
use crate::store::backend::Backend;
use admission::{Admission, Admit};
use auth::Gate;
use bodies::Bodies;
use echoes::Echoes;
use envelope::Heads;
use error::ApiError;
use exchange::{Delivery, Means};
use extract::BodyLimits;
use guard::Guard;
use log::Record;
use refusal::Refusal;

/// What the edge is made of.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "it holds a key")]
pub struct Parts {
    pub config: Arc<Config>,
    pub runner: Runner,
    pub access: Access,
    pub salt: Salt,
    pub metrics: Arc<Metrics>,
    /// Where records outlive the process.
    pub state: Arc<dyn Backend>,
    /// The one that is given to [`serve`] too.
    pub stop: Stop,
}

/// Every route with every layer; to be served, or asked within the process.
pub fn router(parts: Parts) -> Router {
    let guard = Guard::new(&parts.config.server);
    let metrics = Arc::clone(&parts.metrics);
    let app = App::new(parts);
    let routes = Router::new()
        .merge(api(&app, ""))
        .merge(api(&app, "/v1"))
        .merge(api(&app, "/openai/v1"))
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app);
    layered(routes, guard, metrics)
}

fn layered(routes: Router, guard: Guard, metrics: Arc<Metrics>) -> Router {
    let routes = if guard.lists_origins() {
        routes.layer(cors(guard.clone()))
    } else {
        routes
    };
    let panics = CatchPanicLayer::custom(panicked);
    routes.layer((Record(metrics), guard, panics))
}

/// What SDKs call, under whichever prefix their base URL has. Routes that are nested would have their
/// requests' URLs written anew.
fn api(app: &App, prefix: &str) -> Router<App> {
    let admit = || Admit(app.clone());
    let at = |path: &str| format!("{prefix}{path}");
    Router::new()
        .route(&at("/chat/completions"), post(chat::create.layer(admit())))
        .route(
            &at("/completions"),
            post(completions::create.layer(admit())),
        )
        .merge(responses(app, at))
        .merge(conversations(app, at))
        .route(&at("/models"), get(models::list))
        .route(&at("/models/{*id}"), get(models::find))
        .route(&at("/capabilities"), get(models::capabilities))
}

fn responses(app: &App, at: impl Fn(&str) -> String) -> Router<App> {
    let admit = || Admit(app.clone());
    Router::new()
        .route(&at("/responses"), post(responses::create.layer(admit())))
        .route(
            &at("/responses/input_tokens"),
            post(responses::input_tokens.layer(admit())),
        )
        .route(
            &at("/responses/{id}"),
            get(responses::find).delete(responses::delete),
        )
        .route(&at("/responses/{id}/cancel"), post(responses::cancel))
        .route(
            &at("/responses/{id}/input_items"),
            get(responses::input_items),
        )
}

fn conversations(app: &App, at: impl Fn(&str) -> String) -> Router<App> {
    let admit = || Admit(app.clone());
    let describe = post(conversations::describe.layer(admit()));
    let add = post(conversations::add_items.layer(admit()));
    Router::new()
        .route(
            &at("/conversations"),
            post(conversations::create.layer(admit())),
        )
        .route(
            &at("/conversations/{id}"),
            describe
                .get(conversations::find)
                .delete(conversations::delete),
        )
        .route(
            &at("/conversations/{id}/items"),
            add.get(conversations::items),
        )
        .route(
            &at("/conversations/{id}/items/{item}"),
            get(conversations::item).delete(conversations::drop_item),
        )
}

async fn unknown_route(request: Request) -> ApiError {
    Refusal::Route(shown(request.uri().path())).into()
}

async fn method_not_allowed(request: Request) -> ApiError {
    Refusal::Method(shown(request.method().as_str())).into()
}

/// What the caller sent, short enough to be repeated to it.
fn shown(text: &str) -> String {
    const ENOUGH: usize = 100;
    text.chars().take(ENOUGH).collect()
}

/// The panic's own words stay here: they may hold what a caller sent.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    error!("a handler panicked");
    ApiError::from(Refusal::Panic).into_response()
}

/// For pages of the listed origins alone; the guard has refused all others by now.
fn cors(guard: Guard) -> CorsLayer {
    let exposed = [
        reply::CONVERSATION_ID,
        reply::CONVERSATION_DECISION,
        reply::REQUEST_ID,
        reply::IDEMPOTENT_REPLAYED,
        reply::IGNORED_PARAMS,
        reply::EMULATED,
        reply::USAGE_SOURCE,
        reply::PROCESSING_MS,
        error::SHOULD_RETRY,
        error::RETRY_AFTER_MS,
        RETRY_AFTER,
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| guard.lists(origin)))
        .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed)
        .max_age(Duration::from_secs(600))
}

/// What handlers take their slices of. It goes with every request, so cloning shares it.
#[derive(Clone)]
struct App(Arc<Slices>);

struct Slices {
    runner: Runner,
    policy: Arc<Policy>,
    delivery: Delivery,
    gate: Gate,
    heads: Heads,
    body_limits: BodyLimits,
    bodies: Bodies,
    admission: Admission,
    metrics: Arc<Metrics>,
    echoes: Echoes,
}

impl App {
    fn new(parts: Parts) -> Self {
        let config = parts.config;
        let bodies = Bodies::new(&parts.salt);
        let gate = Gate::new(parts.access, parts.salt);
        Self(Arc::new(Slices {
            runner: parts.runner,
            policy: Arc::new(Policy {
                aliases: config.models.aliases.clone(),
                strict_models: config.models.strict,
                strict_parameters: config.parameters.strict,
                auto_tools: config.tools.auto,
            }),
            delivery: Delivery(Arc::new(Means {
                stop: parts.stop,
                stream: config.stream.clone(),
                key_owner: gate.key_owner(),
                key_refused: AtomicBool::new(false),
                state: parts.state,
            })),
            gate,
            heads: Heads::new(&config),
            body_limits: BodyLimits::new(&config.server),
            bodies,
            admission: Admission::new(&config.server, Arc::clone(&parts.metrics)),
            metrics: parts.metrics,
            echoes: Echoes::default(),
        }))
    }
}

impl FromRef<App> for Echoes {
    fn from_ref(app: &App) -> Self {
        app.0.echoes.clone()
    }
}

impl FromRef<App> for Runner {
    fn from_ref(app: &App) -> Self {
        app.0.runner.clone()
    }
}

impl FromRef<App> for Arc<Policy> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.0.policy)
    }
}

impl FromRef<App> for Delivery {
    fn from_ref(app: &App) -> Self {
        app.0.delivery.clone()
    }
}

impl FromRef<App> for Gate {
    fn from_ref(app: &App) -> Self {
        app.0.gate.clone()
    }
}

impl FromRef<App> for Heads {
    fn from_ref(app: &App) -> Self {
        app.0.heads.clone()
    }
}

impl FromRef<App> for BodyLimits {
    fn from_ref(app: &App) -> Self {
        app.0.body_limits
    }
}

impl FromRef<App> for Bodies {
    fn from_ref(app: &App) -> Self {
        app.0.bodies.clone()
    }
}

impl FromRef<App> for Admission {
    fn from_ref(app: &App) -> Self {
        app.0.admission.clone()
    }
}

impl FromRef<App> for Arc<Metrics> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.0.metrics)
    }
}

/// What the answer to a request says of itself; `lead` begins its id.
fn minted(lead: &str, model: String) -> Head {
    Head {
        id: random_id(lead),
        created: seconds(),
        model,
    }
}

/// Since the epoch.
fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// 128 random bits in hex, behind what all ids of a kind begin with.
fn random_id(lead: &str) -> String {
    let bytes = random_bytes();
    let mut id = String::with_capacity(lead.len() + 2 * bytes.len());
    id.push_str(lead);
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    id.extend(halves.filter_map(|half| char::from_digit(half.into(), 16)));
    id
}

/// The system is asked for many at a time: each time takes longer than all else that is done with them.
fn random_bytes() -> [u8; 16] {
    const DRAWN: usize = 64;
    thread_local! {
        static LEFT: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    LEFT.with_borrow_mut(|left| {
        left.pop().unwrap_or_else(|| {
            let mut drawn = [0; 16 * DRAWN];
            getrandom::fill(&mut drawn).expect("the system has random numbers");
            let (drawn, _) = drawn.as_chunks();
            left.extend(drawn);
            left.pop().expect("some were drawn")
        })
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::StatusCode;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_that_does_not_echo_and_the_server_lives() {
        async fn panics() -> Response {
            panic!("with a caller's words")
        }
        let routes = Router::new()
            .route("/panics", get(panics))
            .route("/lives", get(|| async { "still" }));
        let guard = Guard::new(&Config::default().server);
        let routes = layered(routes, guard, Arc::new(Metrics::new()));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).header("host", "localhost");
            let answer = routes.clone().oneshot(request.body(Body::empty()).unwrap());
            let (parts, body) = answer.await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (parts, String::from_utf8(body.to_vec()).unwrap())
        };

        let (failed, told) = ask("/panics").await;
        let (_, next) = ask("/lives").await;

        assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(failed.headers["x-should-retry"], "false");
        assert!(failed.headers.contains_key("x-request-id"));
        insta::assert_snapshot!(told, @r#"{"error":{"message":"the proxy failed; its log says more","type":"server_error","param":null,"code":"internal_error"}}"#);
        assert_eq!(next, "still");
    }
}
