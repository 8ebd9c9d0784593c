//! `POST /v1/workers/register`, `POST /v1/workers/{node_id}/heartbeat`, `DELETE /v1/workers/{node_id}`:
//! the link from pool-managerd. Always needs the token where one is configured (AUTH-1003).

use api_types::link::{DesiredState, NodeReport};
use api_types::{ErrorBody, ErrorCode, NodeId};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use http_front::{ApiError, ApiJson, ApiPath, RequestContext};

use super::AppState;
use super::tasks::gone;
use crate::dispatcher::ReportRefused;
use crate::node_check::is_of_this_host;

/// Routes that need the token even of local callers under `AUTH_OPTIONAL`.
pub(crate) const ALWAYS_TOKEN: &[&str] = &[
    "/v1/workers/register",
    "/v1/workers/{node_id}/heartbeat",
    "/v1/workers/{node_id}",
];

/// Registers a node with its full state.
#[utoipa::path(
    post,
    path = "/v1/workers/register",
    tag = "workers",
    request_body = NodeReport,
    responses(
        (status = 200, description = "What the node shall do", body = DesiredState),
        (status = 400, description = "INVALID_PARAMS: also where the node's relay cannot be reached", body = ErrorBody),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 409, description = "CONFLICT: the node or one of its pools is taken", body = ErrorBody),
    )
)]
pub(super) async fn register(
    State(state): State<AppState>,
    context: RequestContext,
    ApiJson(report): ApiJson<NodeReport>,
) -> Result<Json<DesiredState>, ApiError> {
    is_of_this_host(&report, context.peer)?;
    state.node_check.leads_to(&report).await?;
    let taken = state.dispatcher.register(report).await.map_err(gone)?;
    taken.map(Json).map_err(refused)
}

/// Takes a node's full state.
#[utoipa::path(
    post,
    path = "/v1/workers/{node_id}/heartbeat",
    tag = "workers",
    params(("node_id" = NodeId, Path, description = "Node id")),
    request_body = NodeReport,
    responses(
        (status = 200, description = "What the node shall do", body = DesiredState),
        (status = 404, description = "NOT_FOUND: register first", body = ErrorBody),
        (status = 409, description = "CONFLICT: an older report", body = ErrorBody),
    )
)]
pub(super) async fn heartbeat(
    State(state): State<AppState>,
    ApiPath(node): ApiPath<NodeId>,
    context: RequestContext,
    ApiJson(report): ApiJson<NodeReport>,
) -> Result<Json<DesiredState>, ApiError> {
    if report.node_id != node {
        let message = format!("node_id: is {}, the path names {node}", report.node_id);
        return Err(ApiError::new(ErrorCode::InvalidParams, message));
    }
    is_of_this_host(&report, context.peer)?;
    let taken = state.dispatcher.heartbeat(report).await.map_err(gone)?;
    taken.map(Json).map_err(refused)
}

/// Forgets a node.
#[utoipa::path(
    delete,
    path = "/v1/workers/{node_id}",
    tag = "workers",
    params(("node_id" = NodeId, Path, description = "Node id")),
    responses((status = 204, description = "Forgotten"), (status = 404, description = "NOT_FOUND", body = ErrorBody))
)]
pub(super) async fn deregister(
    State(state): State<AppState>,
    ApiPath(node): ApiPath<NodeId>,
) -> Result<StatusCode, ApiError> {
    let missing = format!("there is no node {node}");
    match state.dispatcher.deregister(node).await.map_err(gone)? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::new(ErrorCode::NotFound, missing)),
    }
}

fn refused(refused: ReportRefused) -> ApiError {
    let code = match refused {
        ReportRefused::Unregistered { .. } => ErrorCode::NotFound,
        ReportRefused::Duplicate { .. } | ReportRefused::PoolTaken { .. } | ReportRefused::Stale { .. } => {
            ErrorCode::Conflict
        }
    };
    ApiError::new(code, refused.to_string())
}
