//! `POST /v1/tasks`, `GET /v1/tasks[/{id}]`, `POST /v1/tasks/{id}/cancel`.

use api_types::{ErrorBody, ErrorCode, TaskId, TaskReceipt, TaskRequest, TaskState, TaskStatus};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use http_front::{ApiError, ApiJson, ApiPath, ApiQuery, RequestContext};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AppState, admission};
use crate::dispatcher::{Gone, ListFilter};

/// Most tasks on one page.
const MAX_PAGE: usize = 1000;

/// Admits a task (ORCH-3101).
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    request_body = TaskRequest,
    responses(
        (status = 202, description = "Admitted; the receipt tells position and predicted times", body = TaskReceipt),
        (status = 400, description = "INVALID_PARAMS or DEADLINE_UNMET", body = ErrorBody),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: host, origin or placement policy", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: nobody serves the model", body = ErrorBody),
        (status = 409, description = "CONFLICT: the task id names another body", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 429, description = "ADMISSION_REJECT: the queue is full", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY or POOL_UNAVAILABLE", body = ErrorBody),
    )
)]
pub(super) async fn submit(
    State(state): State<AppState>,
    context: RequestContext,
    ApiJson(request): ApiJson<TaskRequest>,
) -> Result<(StatusCode, Json<TaskReceipt>), ApiError> {
    let receipt = admission::admit(&state, context, request).await?;
    Ok((StatusCode::ACCEPTED, Json(receipt)))
}

/// Which tasks to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only tasks in this state.
    state: Option<TaskState>,
    /// Tasks after the one named here: the `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<TaskId>,
    /// Most tasks on the page, 1 to 1000; 100 unless said otherwise.
    limit: Option<usize>,
}

/// One page of tasks, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskPage {
    /// The tasks.
    tasks: Vec<TaskStatus>,
    /// Names the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<TaskId>,
}

/// Lists the tasks the daemon remembers.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    params(ListQuery),
    responses((status = 200, description = "One page", body = TaskPage), (status = 400, body = ErrorBody, description = "INVALID_PARAMS"))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<TaskPage>, ApiError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        let message = format!("limit: is {limit}, must be 1 to {MAX_PAGE}");
        return Err(ApiError::new(ErrorCode::InvalidParams, message));
    }
    let filter = ListFilter {
        state: query.state,
        before: query.cursor,
        limit: limit + 1,
    };
    let mut tasks = state.dispatcher.list(filter).await.map_err(gone)?;
    let more = tasks.len() > limit;
    tasks.truncate(limit);
    let next_cursor = tasks.last().filter(|_| more).map(|task| task.task_id);
    Ok(Json(TaskPage { tasks, next_cursor }))
}

/// Shows one task with its live position and estimate.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    params(("id" = String, Path, description = "Task id")),
    responses((status = 200, description = "The task", body = TaskStatus), (status = 404, description = "NOT_FOUND", body = ErrorBody))
)]
pub(super) async fn show(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<TaskId>,
) -> Result<Json<TaskStatus>, ApiError> {
    let status = state.dispatcher.status(id).await.map_err(gone)?;
    status.map(Json).ok_or_else(|| unknown(id))
}

/// Cancels a task (ORCH-3204). Idempotent, also on a finished task.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    tag = "tasks",
    params(("id" = String, Path, description = "Task id")),
    responses((status = 204, description = "No token follows"), (status = 404, description = "NOT_FOUND", body = ErrorBody))
)]
pub(super) async fn cancel(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<TaskId>,
) -> Result<StatusCode, ApiError> {
    let known = state.dispatcher.cancel(id).await.map_err(gone)?;
    known.map(|()| StatusCode::NO_CONTENT).ok_or_else(|| unknown(id))
}

pub(super) fn unknown(id: TaskId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no task {id}"))
}

pub(super) fn gone(gone: Gone) -> ApiError {
    ApiError::from(ErrorBody::from(gone))
}
