//! `GET /v1/models` and `/v1/capabilities`: what may be asked for.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

use super::auth::Caller;
use super::error::ApiError;
use super::refusal::Refusal;
use crate::openai::{Policy, models, params};

pub async fn list(_: Caller, State(policy): State<Arc<Policy>>) -> Response {
    Json(models::list(&policy)).into_response()
}

pub async fn find(
    _: Caller,
    State(policy): State<Arc<Policy>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|_| Refusal::Value {
        message: "the model's name is not UTF-8".to_owned(),
        param: Some("model".to_owned()),
    })?;
    Ok(Json(models::find(&policy, &id)?).into_response())
}

pub async fn capabilities(_: Caller, State(policy): State<Arc<Policy>>) -> Response {
    Json(params::capabilities(&policy)).into_response()
}
