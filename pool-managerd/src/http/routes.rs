//! One handler per route.

use std::sync::Arc;
use std::time::Duration;

use api_types::link::{EngineLog, EngineLogQuery, NodeReport};
use api_types::pool::PoolReport;
use api_types::{ErrorBody, ErrorCode, PoolId};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_front::{ApiError, ApiPath, ApiQuery};
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiState;
use super::follow::followed;
use crate::gpu::DriverError;
use crate::pool::{Pool, engine_log, strip_keys};

/// Lines of a log when the caller does not say how many.
const DEFAULT_TAIL: u32 = 100;

/// Longest wait for an engine's end. Whoever waits holds up an error of its own meanwhile.
const MAX_WAIT_EXIT_MS: u64 = 10_000;

/// The format that scrapers of metrics expect.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /v1/pools`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolReports {
    /// In the order of the configuration.
    pools: Vec<PoolReport>,
}

/// `GET /healthz` and `GET /readyz`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });

/// GPUs, driver and pools of this node.
#[utoipa::path(get, path = "/v1/node", responses((status = 200, body = NodeReport), (status = 401, body = ErrorBody)))]
pub(super) async fn node(State(state): State<ApiState>) -> Json<NodeReport> {
    Json(state.reporter.public(state.sequence.last()))
}

/// The pools of this node.
#[utoipa::path(get, path = "/v1/pools", responses((status = 200, body = PoolReports), (status = 401, body = ErrorBody)))]
pub(super) async fn pools(State(state): State<ApiState>) -> Json<PoolReports> {
    let mut pools = state.pools.report();
    pools.iter_mut().for_each(strip_keys);
    Json(PoolReports { pools })
}

/// One pool of this node.
#[utoipa::path(
    get,
    path = "/v1/pools/{id}",
    params(("id" = PoolId, Path, description = "The pool.")),
    responses((status = 200, body = PoolReport), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn pool(
    State(state): State<ApiState>,
    ApiPath(id): ApiPath<PoolId>,
) -> Result<Json<PoolReport>, ApiError> {
    let pool = known(&state, &id)?;
    let mut report = pool.report();
    strip_keys(&mut report);
    Ok(Json(report))
}

/// The last lines that an engine wrote; with `follow`, those and every line from then on, as plain text.
#[utoipa::path(
    get,
    path = "/v1/pools/{id}/logs",
    params(("id" = PoolId, Path, description = "The pool."), EngineLogQuery),
    responses(
        (status = 200, content((EngineLog = "application/json"), (String = "text/plain"))),
        (status = 400, body = ErrorBody),
        (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody)
    )
)]
pub(super) async fn logs(
    State(state): State<ApiState>,
    ApiPath(id): ApiPath<PoolId>,
    ApiQuery(query): ApiQuery<EngineLogQuery>,
) -> Result<Response, ApiError> {
    let replica = known(&state, &id)?
        .replica(&query.replica_id)
        .ok_or_else(|| not_found(format!("pool {id} has no replica {}", query.replica_id)))?;
    let view = replica.view();
    let output = view
        .output(query.generation)
        .ok_or_else(|| not_found(no_such_start(&query)))?;
    let tail = query.tail.unwrap_or(DEFAULT_TAIL);
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    if query.follow == Some(true) {
        return Ok(followed(Arc::clone(output), tail, state.stopping.clone()));
    }
    output.closed_within(wait(&query)?).await;
    Ok(Json(engine_log(&id, replica.id(), output, tail).await).into_response())
}

/// Metric families for a scraper.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let text = state.metrics.render().map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}

/// Whether the reconcile loop answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Health), (status = 503, body = ErrorBody)))]
pub(super) async fn healthz(State(state): State<ApiState>) -> Result<Json<Health>, ApiError> {
    if state.pulse.beats().await {
        return Ok(OK);
    }
    let stuck = ApiError::new(ErrorCode::Internal, "the reconcile loop does not answer");
    Err(stuck.with_status(StatusCode::SERVICE_UNAVAILABLE))
}

/// Whether the daemon supervises: it has looked at the GPUs, and it is not stopping. Pools have readiness of
/// their own.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = Health), (status = 503, body = ErrorBody)))]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<Health>, ApiError> {
    if state.stopping.is_cancelled() {
        return Err(ApiError::new(
            ErrorCode::PoolUnavailable,
            "the daemon is stopping",
        ));
    }
    if matches!(*state.gpus.borrow(), Err(DriverError::Pending)) {
        return Err(ApiError::new(
            ErrorCode::PoolUnready,
            DriverError::Pending.to_string(),
        ));
    }
    Ok(OK)
}

pub(super) fn known<'a>(state: &'a ApiState, id: &PoolId) -> Result<&'a Pool, ApiError> {
    let pool = state.pools.get(id);
    pool.ok_or_else(|| not_found(format!("this node has no pool {id}")))
}

pub(super) fn not_found(message: String) -> ApiError {
    ApiError::new(ErrorCode::NotFound, message)
}

fn no_such_start(query: &EngineLogQuery) -> String {
    match query.generation {
        Some(generation) => format!(
            "nothing is kept of generation {generation} of replica {}; only its last two starts are",
            query.replica_id
        ),
        None => format!("replica {} has not been started yet", query.replica_id),
    }
}

fn wait(query: &EngineLogQuery) -> Result<Duration, ApiError> {
    let ms = query.wait_exit_ms.unwrap_or(0);
    if ms > MAX_WAIT_EXIT_MS {
        let message = format!("wait_exit_ms is {ms}, at most {MAX_WAIT_EXIT_MS} are allowed");
        return Err(ApiError::new(ErrorCode::InvalidParams, message));
    }
    Ok(Duration::from_millis(ms))
}
