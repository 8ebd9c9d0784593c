//! `GET /v1/capabilities`, `/v1/nodes`, `/v1/pools[/{id}[/health]]`: live state.

use api_types::capabilities::Capabilities;
use api_types::pool::{PoolHealth, PoolStatus};
use api_types::{ErrorBody, ErrorCode, NodeList, PoolId, PoolList};
use axum::Json;
use axum::extract::State;
use http_front::{ApiError, ApiPath};

use super::AppState;
use super::tasks::gone;

/// What can be asked for at this moment (ORCH-3603).
#[utoipa::path(get, path = "/v1/capabilities", tag = "control", responses((status = 200, description = "Ready pools and their engines", body = Capabilities)))]
pub(super) async fn capabilities(State(state): State<AppState>) -> Result<Json<Capabilities>, ApiError> {
    state.dispatcher.capabilities().await.map(Json).map_err(gone)
}

/// Lists the GPU nodes.
#[utoipa::path(get, path = "/v1/nodes", tag = "control", responses((status = 200, description = "Every known node", body = NodeList)))]
pub(super) async fn nodes(State(state): State<AppState>) -> Result<Json<NodeList>, ApiError> {
    let nodes = state.dispatcher.nodes().await.map_err(gone)?;
    Ok(Json(NodeList { nodes }))
}

/// Lists the pools.
#[utoipa::path(get, path = "/v1/pools", tag = "control", responses((status = 200, description = "Every known pool", body = PoolList)))]
pub(super) async fn pools(State(state): State<AppState>) -> Result<Json<PoolList>, ApiError> {
    let pools = state.dispatcher.pools().await.map_err(gone)?;
    Ok(Json(PoolList { pools }))
}

/// Shows one pool.
#[utoipa::path(
    get,
    path = "/v1/pools/{id}",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id")),
    responses((status = 200, description = "The pool", body = PoolStatus), (status = 404, description = "NOT_FOUND", body = ErrorBody))
)]
pub(super) async fn pool(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
) -> Result<Json<PoolStatus>, ApiError> {
    find(&state, &id).await.map(Json)
}

/// Tells whether a pool takes work, and why not.
#[utoipa::path(
    get,
    path = "/v1/pools/{id}/health",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id")),
    responses((status = 200, description = "Its health", body = PoolHealth), (status = 404, description = "NOT_FOUND", body = ErrorBody))
)]
pub(super) async fn pool_health(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
) -> Result<Json<PoolHealth>, ApiError> {
    find(&state, &id).await.map(|pool| Json(pool.health))
}

pub(super) async fn find(state: &AppState, id: &PoolId) -> Result<PoolStatus, ApiError> {
    let pools = state.dispatcher.pools().await.map_err(gone)?;
    let found = pools.into_iter().find(|pool| pool.pool_id == *id);
    found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no pool {id}")))
}
