//! `POST /v1/tasks`, `GET /v1/tasks[/{id}]`, `POST /v1/tasks/{id}/cancel`.

use api_types::{ErrorBody, ErrorCode, TaskId, TaskList, TaskQuery, TaskReceipt, TaskRequest, TaskStatus};
use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use http_front::{ApiError, ApiJson, ApiPath, ApiQuery, RequestContext, budget_headers};

use super::{AppState, admission, headers, rate_limit};
use crate::dispatcher::{Gone, ListFilter};

/// Most tasks on one page.
const MAX_PAGE: u32 = 1000;

/// Tasks on a page unless the query says otherwise.
const DEFAULT_PAGE: u32 = 100;

/// Admits a task (ORCH-3101).
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    request_body = TaskRequest,
    responses(
        (status = 202, description = "Admitted; the receipt tells position and predicted times", body = TaskReceipt, headers(
            ("X-Queue-Position" = u32, description = "Tasks ahead"),
            ("X-Predicted-Start-Ms" = u64, description = "When it starts, ms from now, where it is known"),
            ("X-Predicted-End-Ms" = u64, description = "When it ends, ms from now, where it is known"),
            ("X-Budget-Tokens-Remaining" = u64, description = "Tokens left of the session's budget, where it has one"),
            ("X-Budget-Time-Remaining-Ms" = u64, description = "Time left of the session's budget, ms, where it has one"),
            ("X-Budget-Cost-Remaining" = f64, description = "Cost left of the session's budget, where it has one"),
        )),
        (status = 400, description = "INVALID_PARAMS or DEADLINE_UNMET", body = ErrorBody),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: host, origin or placement policy", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: nobody serves the model", body = ErrorBody),
        (status = 409, description = "CONFLICT: the task id names another body, or the session has had its turns", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 429, description = "ADMISSION_REJECT: the queue is full, or the session's budget or the caller's rate does not allow the task", body = ErrorBody, headers(
            ("Retry-After" = u64, description = "Seconds, rounded up, where it is known"),
            ("X-Backoff-Ms" = u64, description = "The same, ms"),
        )),
        (status = 503, description = "POOL_UNREADY or POOL_UNAVAILABLE", body = ErrorBody, headers(
            ("Retry-After" = u64, description = "Seconds, rounded up, where it is known"),
            ("X-Backoff-Ms" = u64, description = "The same, ms"),
        )),
    )
)]
pub(super) async fn submit(
    State(state): State<AppState>,
    context: RequestContext,
    ApiJson(request): ApiJson<TaskRequest>,
) -> Result<(StatusCode, HeaderMap, Json<TaskReceipt>), ApiError> {
    rate_limit::take(&state, &context, &request)?;
    let receipt = admission::admit(&state, context, request).await?;
    let mut headers = budget_headers(&receipt.budgets);
    headers.extend(headers::estimate(
        Some(receipt.queue_position),
        receipt.predicted_start_ms,
        receipt.predicted_end_ms,
    ));
    Ok((StatusCode::ACCEPTED, headers, Json(receipt)))
}

/// Lists the tasks the daemon remembers.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    params(TaskQuery),
    responses((status = 200, description = "One page", body = TaskList), (status = 400, body = ErrorBody, description = "INVALID_PARAMS"))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    ApiQuery(query): ApiQuery<TaskQuery>,
) -> Result<Json<TaskList>, ApiError> {
    let filter = filter(&query)?;
    let limit = filter.limit;
    let mut tasks = state
        .dispatcher
        .list(ListFilter {
            limit: limit + 1,
            ..filter
        })
        .await
        .map_err(gone)?;
    let more = tasks.len() > limit;
    tasks.truncate(limit);
    let next_cursor = tasks.last().filter(|_| more).map(|task| task.task_id.to_string());
    Ok(Json(TaskList { tasks, next_cursor }))
}

fn filter(query: &TaskQuery) -> Result<ListFilter, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidParams, message);
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid(format!("limit: is {limit}, must be 1 to {MAX_PAGE}")));
    }
    let before = query.cursor.as_deref().map(str::parse::<TaskId>).transpose();
    let before = before.map_err(|_| invalid("cursor: is not the next_cursor of a page".into()))?;
    Ok(ListFilter {
        state: query.state,
        before,
        limit: limit as usize,
    })
}

/// Shows one task with its live position and estimate.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    params(("id" = TaskId, Path, description = "Task id")),
    responses((status = 200, description = "The task", body = TaskStatus), (status = 404, description = "NOT_FOUND", body = ErrorBody))
)]
pub(super) async fn show(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<TaskId>,
) -> Result<(HeaderMap, Json<TaskStatus>), ApiError> {
    let status = state.dispatcher.status(id).await.map_err(gone)?;
    let status = status.ok_or_else(|| unknown(id))?;
    let headers = headers::estimate(
        status.queue_position,
        status.predicted_start_ms,
        status.predicted_end_ms,
    );
    Ok((headers, Json(status)))
}

/// Cancels a task (ORCH-3204). Idempotent, also on a finished task.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    tag = "tasks",
    params(("id" = TaskId, Path, description = "Task id")),
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
