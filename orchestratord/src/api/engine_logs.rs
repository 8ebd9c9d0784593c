//! `GET /v1/pools/{id}/logs`: what an engine of a pool wrote, from the node that watches it.

use api_types::link::{EngineLog, EngineLogQuery, PoolLogQuery};
use api_types::pool::PoolStatus;
use api_types::{ErrorBody, ErrorCode, PoolId, ReplicaId};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::header;
use http_front::{ApiError, ApiPath, ApiQuery};
use llama_orch_client::ClientError;

use super::AppState;
use super::control::find;
use super::tasks::gone;

const TEXT: &str = "text/plain; charset=utf-8";

/// The last lines that an engine wrote, without secrets; with `follow`, those and every line from then on, as plain text.
#[utoipa::path(
    get,
    path = "/v1/pools/{id}/logs",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id"), PoolLogQuery),
    responses(
        (status = 200, description = "The lines", content((EngineLog = "application/json"), (String = "text/plain"))),
        (status = 400, description = "INVALID_PARAMS", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: the pool, its replica, or a start of it", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY: the node does not answer", body = ErrorBody),
    )
)]
pub(super) async fn logs(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
    ApiQuery(query): ApiQuery<PoolLogQuery>,
) -> Result<Response, ApiError> {
    let pool = find(&state, &id).await?;
    let address = address(&state, &pool).await?;
    let query = EngineLogQuery {
        replica_id: replica(&pool, query.replica_id)?,
        generation: query.generation,
        tail: query.tail,
        follow: query.follow,
        wait_exit_ms: None,
    };
    if query.follow == Some(true) {
        return followed(&state, &address, &id, &query).await;
    }
    let log = state.nodes.engine_log(&address, &id, &query).await;
    log.map(|log: EngineLog| Json(log).into_response())
        .map_err(passed_on)
}

async fn followed(
    state: &AppState,
    address: &str,
    id: &PoolId,
    query: &EngineLogQuery,
) -> Result<Response, ApiError> {
    let lines = state
        .nodes
        .follow_engine_log(address, id, query)
        .await
        .map_err(passed_on)?;
    // The body ends when the process has, when the reader goes, or when this daemon stops.
    let stopping = state.draining.clone();
    let lines = lines.take_until(async move { stopping.cancelled().await });
    let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn replica(pool: &PoolStatus, asked: Option<ReplicaId>) -> Result<ReplicaId, ApiError> {
    let first = || pool.replicas.first().map(|replica| replica.replica_id.clone());
    let none = || {
        let message = format!("pool {} has no engine, so replica_id is needed", pool.pool_id);
        ApiError::new(ErrorCode::NotFound, message)
    };
    asked.or_else(first).ok_or_else(none)
}

async fn address(state: &AppState, pool: &PoolStatus) -> Result<String, ApiError> {
    let nodes = state.dispatcher.nodes().await.map_err(gone)?;
    let node = nodes.into_iter().find(|node| node.node_id == pool.node_id);
    let gone = || {
        ApiError::new(
            ErrorCode::NotFound,
            format!("the node of pool {} is gone", pool.pool_id),
        )
    };
    node.map(|node| node.address).ok_or_else(gone)
}

/// The node's own refusals say what is wrong with the query; its silence is another matter.
fn passed_on(error: ClientError) -> ApiError {
    match error {
        ClientError::Api(error)
            if !matches!(error.body.code, ErrorCode::MissingToken | ErrorCode::BadToken) =>
        {
            ApiError::new(error.body.code, error.body.message.clone())
        }
        other => ApiError::new(
            ErrorCode::PoolUnready,
            format!("the pool's node does not tell: {other}"),
        ),
    }
}
