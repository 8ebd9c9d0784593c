//! `/metrics`, `/healthz`, `/readyz`, `/openapi.json`.

use std::sync::LazyLock;
use std::time::Duration;

use api_types::{ErrorBody, ErrorCode};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http_front::ApiError;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{AppState, spec};

/// The decision loop handles a command in microseconds; when it does not answer within this time
/// it is stuck.
const LOOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The Prometheus text format's media type.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A probe's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Probe {
    /// `ok`.
    status: &'static str,
}

/// Prometheus text. A scrape only reads.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "Prometheus text", content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let text = state.metrics.text().map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, EXPOSITION)], text).into_response())
}

/// The decision loop answers. Public.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    security(()),
    responses((status = 200, description = "Alive", body = Probe), (status = 503, description = "Stuck or stopping", body = ErrorBody))
)]
pub(super) async fn healthz(State(state): State<AppState>) -> Result<Json<Probe>, ApiError> {
    match timeout(LOOP_TIMEOUT, state.dispatcher.ping()).await {
        Ok(Ok(())) => Ok(Json(Probe { status: "ok" })),
        Ok(Err(gone)) => Err(ErrorBody::from(gone).into()),
        Err(_) => Err(ApiError::new(
            ErrorCode::PoolUnavailable,
            "the decision loop does not answer",
        )),
    }
}

/// New tasks are admitted. Public.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    security(()),
    responses((status = 200, description = "Admits", body = Probe), (status = 503, description = "Stopping", body = ErrorBody))
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<Json<Probe>, ApiError> {
    if state.draining.is_cancelled() {
        return Err(ErrorBody::from(crate::dispatcher::Gone).into());
    }
    healthz(State(state)).await
}

static DOCUMENT: LazyLock<Result<String, String>> =
    LazyLock::new(|| spec::whole().to_json().map_err(|error| error.to_string()));

/// The OpenAPI document of both planes.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
pub(super) async fn openapi() -> Result<Response, ApiError> {
    let document = DOCUMENT.as_ref().map_err(ApiError::internal)?;
    Ok(([(CONTENT_TYPE, "application/json")], document.as_str()).into_response())
}
