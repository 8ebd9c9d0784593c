//! `GET /v1/tasks/{id}/decision`, `POST /v1/placement/explain`: why a task is where it is, and where
//! one would go. Nothing here changes anything.

use api_types::{ErrorBody, TaskId, TaskRequest};
use axum::Json;
use axum::extract::State;
use http_front::{ApiError, ApiJson, ApiPath, RequestContext};
use orchestrator_core::policy::DecisionRecord;

use super::AppState;
use super::admission::{check, uncountable};
use super::measure;
use super::sessions::identity_of;
use super::tasks::{gone, unknown};
use crate::dispatcher::{Explained, Preview, PromptTokens, undecided};

/// Shows the latest decision about a task and what it was made on.
///
/// A waiting task is evaluated for this answer (`stage: waiting`). `input` replays to the same
/// decision with the same policy version; it is absent once later decisions needed its room.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/decision",
    tag = "tasks",
    params(("id" = TaskId, Path, description = "Task id")),
    responses(
        (status = 200, description = "The decision, its log and its input", body = DecisionRecord),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 404, description = "NOT_FOUND: no such task, or nothing is known of how it was placed", body = ErrorBody),
    )
)]
pub(super) async fn decision(
    State(state): State<AppState>,
    ApiPath(id): ApiPath<TaskId>,
) -> Result<Json<DecisionRecord>, ApiError> {
    let known = state.dispatcher.decision(id).await.map_err(gone)?;
    let record = known.ok_or_else(|| unknown(id))?;
    record.map(Json).ok_or_else(|| undecided(id).into())
}

/// Tells where a task would be placed now, and why; nothing is enqueued or counted.
///
/// A task that no pool can serve is an answer too (`outcome: refused`). A request that admission
/// would refuse before placement is refused here in the same way.
#[utoipa::path(
    post,
    path = "/v1/placement/explain",
    tag = "tasks",
    request_body = TaskRequest,
    responses(
        (status = 200, description = "The decision, its log and its input", body = DecisionRecord),
        (status = 400, description = "INVALID_PARAMS", body = ErrorBody),
        (status = 401, description = "MISSING_TOKEN or BAD_TOKEN", body = ErrorBody),
        (status = 403, description = "FORBIDDEN: host, origin or placement policy", body = ErrorBody),
        (status = 413, description = "PAYLOAD_TOO_LARGE", body = ErrorBody),
        (status = 503, description = "POOL_UNREADY: the engine could not count the prompt", body = ErrorBody),
    )
)]
pub(super) async fn explain(
    State(state): State<AppState>,
    context: RequestContext,
    ApiJson(request): ApiJson<TaskRequest>,
) -> Result<Json<DecisionRecord>, ApiError> {
    check(&state, &request)?;
    let bounds = measure::bounds(&request);
    match ask(&state, &context, request.clone(), bounds.longest).await? {
        Explained::Record(record) => Ok(Json(*record)),
        Explained::Count(tokenizer) => {
            let counted = measure::count(&state.host, &tokenizer, &request).await?;
            match ask(
                &state,
                &context,
                request,
                counted.unwrap_or_else(|| bounds.last_word()).longest,
            )
            .await?
            {
                Explained::Record(record) => Ok(Json(*record)),
                Explained::Count(tokenizer) => Err(uncountable(&tokenizer)),
            }
        }
    }
}

async fn ask(
    state: &AppState,
    context: &RequestContext,
    request: TaskRequest,
    prompt_tokens: PromptTokens,
) -> Result<Explained, ApiError> {
    let preview = Preview {
        request,
        prompt_tokens,
        identity: identity_of(context),
    };
    state.dispatcher.explain(preview).await.map_err(gone)
}
