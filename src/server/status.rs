//! How the program fares: for those who run it. Nothing here calls the upstream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::auth::Observer;
use super::error::KeyOwner;
use super::exchange::Delivery;
use crate::metrics::Metrics;
use crate::run::live::Runner;

#[derive(Serialize)]
struct Status {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub async fn live() -> Response {
    Json(Status {
        status: "ok",
        reason: None,
    })
    .into_response()
}

/// Degraded is still 200: only a turn can show that the key is good again, what the disk does not
/// take is in memory, and whoever takes a proxy out of service for a 503 would keep all turns from it.
pub async fn ready(State(delivery): State<Delivery>, State(runner): State<Runner>) -> Response {
    let (code, status, reason) = if delivery.stop.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting_down", None)
    } else if delivery.key_refused.load(Ordering::Relaxed) {
        (StatusCode::OK, "degraded", Some("upstream_key_refused"))
    } else if delivery.state.is_degraded() {
        (StatusCode::OK, "degraded", Some("state_not_written"))
    } else if fails(&delivery, &runner) {
        (StatusCode::OK, "degraded", Some("upstream_failing"))
    } else {
        (StatusCode::OK, "ok", None)
    };
    (code, Json(Status { status, reason })).into_response()
}

/// Whether nothing new can be posted: by anyone, or with the one key that there is.
fn fails(delivery: &Delivery, runner: &Runner) -> bool {
    let (for_all, for_some) = runner.is_upstream_failing();
    for_all || for_some && delivery.key_owner == KeyOwner::Proxy
}

pub async fn metrics(_: Observer, State(metrics): State<Arc<Metrics>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics.render()).into_response()
}
