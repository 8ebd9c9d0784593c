//! `GET` and `DELETE /v1/sessions/{id}`: the caller's own sessions only (REQ-SESSION-OWNER).

use api_types::{ErrorBody, ErrorCode, SessionId, SessionStatus};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use http_front::{ApiError, ApiPath, RequestContext};

use super::AppState;
use super::tasks::gone;
use crate::dispatcher::SessionKey;

/// Shows one session: how long it lasts, its turns, what its budgets still allow, what its engine holds.
///
/// A session is made by the first task that names it, and belongs to the identity that sent that task: to any
/// other it does not exist.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "Session id")),
    responses(
        (status = 200, description = "The session", body = SessionStatus),
        (status = 400, description = "INVALID_PARAMS: not a session id", body = ErrorBody),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: no task has named it, or it has ended", body = ErrorBody),
    )
)]
pub(super) async fn show(
    State(state): State<AppState>,
    context: RequestContext,
    ApiPath(id): ApiPath<SessionId>,
) -> Result<Json<SessionStatus>, ApiError> {
    let status = state
        .dispatcher
        .session(key(&context, id.clone()))
        .await
        .map_err(gone)?;
    status.map(Json).ok_or_else(|| unknown(&id))
}

/// Ends a session. Its tasks go on; the next task that names the id begins a new one.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    tag = "sessions",
    params(("id" = SessionId, Path, description = "Session id")),
    responses(
        (status = 204, description = "It has ended"),
        (status = 400, description = "INVALID_PARAMS: not a session id", body = ErrorBody),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: no task has named it, or it has ended", body = ErrorBody),
    )
)]
pub(super) async fn end(
    State(state): State<AppState>,
    context: RequestContext,
    ApiPath(id): ApiPath<SessionId>,
) -> Result<StatusCode, ApiError> {
    let known = state
        .dispatcher
        .end_session(key(&context, id.clone()))
        .await
        .map_err(gone)?;
    known
        .then_some(StatusCode::NO_CONTENT)
        .ok_or_else(|| unknown(&id))
}

fn key(context: &RequestContext, id: SessionId) -> SessionKey {
    SessionKey {
        identity: identity_of(context),
        id,
    }
}

/// Who asks, as logged.
pub(super) fn identity_of(context: &RequestContext) -> String {
    let identity = context.identity.as_ref();
    identity.map_or_else(String::new, ToString::to_string)
}

fn unknown(id: &SessionId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no session {id}"))
}
