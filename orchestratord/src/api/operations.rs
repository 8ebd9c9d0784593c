//! `POST /v1/pools/{id}/drain|reload|load|unload`: what shall become of a pool. Each is answered once the pool's node has
//! recorded it; how it gets on is `last_operation` of `GET /v1/pools/{id}/health`.

use api_types::operation::MAX_OPERATION_DEADLINE_MS;
use api_types::{
    ErrorBody, ErrorCode, LoadRequest, OperationAccepted, OperationKind, PoolId, ReloadRequest, StopRequest,
};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use http_front::{ApiError, ApiJson, ApiPath};

use super::AppState;
use super::tasks::gone;
use crate::dispatcher::{Ask, NotOperated};

/// How long running tasks may go on unless the request says otherwise, ms.
const DEFAULT_DEADLINE_MS: u64 = 60_000;

/// Takes no new work, lets running tasks finish until the deadline, stops the engines. Lasts until a load.
#[utoipa::path(
    post,
    path = "/v1/pools/{id}/drain",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id")),
    request_body = StopRequest,
    responses(
        (status = 202, description = "The node has recorded it", body = OperationAccepted),
        (status = 400, description = "INVALID_PARAMS", body = ErrorBody),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
        (status = 409, description = "CONFLICT: another operation is not over", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY: the node is silent", body = ErrorBody),
    )
)]
pub(super) async fn drain(
    state: State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
    ApiJson(request): ApiJson<StopRequest>,
) -> Result<(StatusCode, Json<OperationAccepted>), ApiError> {
    stop(state, id, OperationKind::Drain, request).await
}

/// Stops the engines; the next task that asks for a model of the pool loads it again.
#[utoipa::path(
    post,
    path = "/v1/pools/{id}/unload",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id")),
    request_body = StopRequest,
    responses(
        (status = 202, description = "The node has recorded it", body = OperationAccepted),
        (status = 400, description = "INVALID_PARAMS", body = ErrorBody),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
        (status = 409, description = "CONFLICT: another operation is not over", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY: the node is silent", body = ErrorBody),
    )
)]
pub(super) async fn unload(
    state: State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
    ApiJson(request): ApiJson<StopRequest>,
) -> Result<(StatusCode, Json<OperationAccepted>), ApiError> {
    stop(state, id, OperationKind::Unload, request).await
}

/// Serves one of the pool's models: the named one, else the one that was served last. Ends a drain.
#[utoipa::path(
    post,
    path = "/v1/pools/{id}/load",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id")),
    request_body = LoadRequest,
    responses(
        (status = 202, description = "The node has recorded it", body = OperationAccepted),
        (status = 400, description = "INVALID_PARAMS: also a model that the pool does not list", body = ErrorBody),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
        (status = 409, description = "CONFLICT: another operation is not over", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY: the node is silent", body = ErrorBody),
    )
)]
pub(super) async fn load(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
    ApiJson(request): ApiJson<LoadRequest>,
) -> Result<(StatusCode, Json<OperationAccepted>), ApiError> {
    let ask = Ask {
        kind: OperationKind::Load,
        model_ref: request.model_ref,
        model_id: None,
        deadline_ms: deadline(request.deadline_ms)?,
    };
    operate(&state, id, ask).await
}

/// Serves another model, or goes on with the present one where that fails.
///
/// The new model is loaded beside the old one where GPU memory allows for both; else the old one finishes its tasks and
/// ends first, and is loaded again if the new one fails.
#[utoipa::path(
    post,
    path = "/v1/pools/{id}/reload",
    tag = "control",
    params(("id" = PoolId, Path, description = "Pool id")),
    request_body = ReloadRequest,
    responses(
        (status = 202, description = "The node has recorded it", body = OperationAccepted),
        (status = 400, description = "INVALID_PARAMS", body = ErrorBody),
        (status = 404, description = "NOT_FOUND", body = ErrorBody),
        (status = 409, description = "CONFLICT: another operation is not over", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY: the node is silent", body = ErrorBody),
    )
)]
pub(super) async fn reload(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<PoolId>,
    ApiJson(request): ApiJson<ReloadRequest>,
) -> Result<(StatusCode, Json<OperationAccepted>), ApiError> {
    let ask = Ask {
        kind: OperationKind::Reload,
        model_ref: Some(request.new_model_ref),
        model_id: request.model_id,
        deadline_ms: deadline(request.deadline_ms)?,
    };
    operate(&state, id, ask).await
}

async fn stop(
    State(state): State<AppState>,
    id: PoolId,
    kind: OperationKind,
    request: StopRequest,
) -> Result<(StatusCode, Json<OperationAccepted>), ApiError> {
    let ask = Ask {
        kind,
        model_ref: None,
        model_id: None,
        deadline_ms: deadline(request.deadline_ms)?,
    };
    operate(&state, id, ask).await
}

async fn operate(
    state: &AppState,
    id: PoolId,
    ask: Ask,
) -> Result<(StatusCode, Json<OperationAccepted>), ApiError> {
    let operated = state.dispatcher.operate(id, ask).await.map_err(gone)?;
    operated
        .map(|accepted| (StatusCode::ACCEPTED, Json(accepted)))
        .map_err(refused)
}

fn deadline(asked: Option<u64>) -> Result<u64, ApiError> {
    let ms = asked.unwrap_or(DEFAULT_DEADLINE_MS);
    if ms > MAX_OPERATION_DEADLINE_MS {
        let message = format!("deadline_ms: is {ms}, at most {MAX_OPERATION_DEADLINE_MS} are allowed");
        return Err(ApiError::new(ErrorCode::InvalidParams, message));
    }
    Ok(ms)
}

fn refused(not: NotOperated) -> ApiError {
    let code = match not {
        NotOperated::Unknown(_) => ErrorCode::NotFound,
        NotOperated::Silent(_) => ErrorCode::PoolUnready,
        NotOperated::Busy { .. } => ErrorCode::Conflict,
        NotOperated::NoSuchModel { .. } | NotOperated::Nameless(_) => ErrorCode::InvalidParams,
    };
    ApiError::new(code, not.to_string())
}
