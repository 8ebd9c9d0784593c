//! The rate limit at the door of `POST /v1/tasks`: refused before anything is counted, placed or queued.

use api_types::{EngineKind, TaskRequest};
use http_front::{ApiError, RequestContext};
use narration_core::Narration;

use super::AppState;
use super::sessions::identity_of;
use crate::story::ACTOR;

/// Takes one from the caller's bucket.
///
/// # Errors
/// ADMISSION_REJECT with the label `rate-limit`.
pub(super) fn take(
    state: &AppState,
    context: &RequestContext,
    request: &TaskRequest,
) -> Result<(), ApiError> {
    let identity = identity_of(context);
    state.rates.take(&identity).map_err(|body| {
        let engine = request.engine.map_or("any", EngineKind::as_str);
        state.metrics.task_rejected(engine, "rate-limit");
        Narration::new(
            ACTOR,
            "rejection",
            &request.model_ref,
            "Refuses a task that comes too soon.",
        )
        .correlation_id(&context.correlation_id)
        .identity(&identity)
        .session_id(request.session_id.as_ref())
        .decision(&"rate-limit")
        .emit();
        (*body).into()
    })
}
