//! Refusals at admission: each reason once to its code, message, hint and label.

use api_types::pool::UnreadyCause;
use api_types::{ErrorBody, ErrorCode, ModelId, PolicyLabel, TaskRequest, Workload};
use orchestrator_core::policy::{Refusal, Refused};
use orchestrator_core::queue::{FullPolicy, RefusedBecause};

use tokio::time::Instant;

use super::Dispatcher;
use super::admit::least_output;
use super::estimate::Estimate;
use super::fleet::Fleet;
use super::handle::{Gone, PromptTokens};

/// Models named in a hint; more would not be read.
const NAMED_MODELS: usize = 16;

impl Dispatcher {
    /// No new work while the daemon stops.
    pub(super) fn shutting_down(&self) -> ErrorBody {
        ErrorBody::from(Gone).with_retry_after(self.parts.pause.for_one())
    }

    /// No pool can take the task (ORCH-3906): what is wrong with each, and when the first may be ready.
    pub(super) fn infeasible(
        &self,
        request: &TaskRequest,
        prompt: PromptTokens,
        refused: &Refused,
        now: Instant,
    ) -> ErrorBody {
        let body = infeasible(&self.fleet, request, prompt, refused);
        if body.code.http_status() != 503 {
            return body;
        }
        body.with_retry_after(self.retry_when_ready(refused, now))
    }
}

/// The queue has no place.
pub(super) fn full(policy: FullPolicy, reason: &RefusedBecause, retry_after_ms: Option<u64>) -> ErrorBody {
    ErrorBody::new(ErrorCode::AdmissionReject, reason.to_string())
        .with_policy(policy.label())
        .with_retry_after(retry_after_ms)
}

/// The deadline is shorter than the estimate (ORCH-3107). Load is the reason, so it is retriable.
pub(super) fn deadline(request: &TaskRequest, estimate: &Estimate) -> Option<ErrorBody> {
    let (deadline, start_ms) = (request.deadline_ms?, estimate.start_ms?);
    let earliest = estimate.end_ms.unwrap_or(start_ms);
    if earliest <= deadline {
        return None;
    }
    let message = format!(
        "deadline_ms: {deadline} ms cannot be met, the estimate is start in {start_ms} ms and end in {earliest} ms"
    );
    let mut body = ErrorBody::new(ErrorCode::DeadlineUnmet, message);
    body.retriable = start_ms > 0;
    Some(body)
}

fn infeasible(fleet: &Fleet, request: &TaskRequest, prompt: PromptTokens, refused: &Refused) -> ErrorBody {
    if fleet.is_empty() {
        return ErrorBody::new(ErrorCode::PoolUnready, "no GPU node has registered yet")
            .with_reason("no_node")
            .with_hint("start pool-managerd on a GPU box and point it at this orchestrator");
    }
    let refusal = &refused.refusal;
    let body =
        ErrorBody::new(refusal.code(), message(request, prompt, refused)).with_reason(refusal.reason());
    match refusal {
        Refusal::UnknownModel { .. } => body.with_hint(served_models(fleet)),
        Refusal::NotReady => with_cause(body, fleet, refused),
        _ => body,
    }
}

fn message(request: &TaskRequest, prompt: PromptTokens, refused: &Refused) -> String {
    match (&refused.refusal, prompt) {
        (Refusal::ContextTooLarge { .. }, PromptTokens::Exactly(tokens)) => {
            let field = input_field(request.workload);
            let output = least_output(request);
            if request.workload.generates() {
                format!("{field}: {tokens} tokens and up to {output} tokens of output; {refused}")
            } else {
                format!("{field}: the longest has {tokens} tokens and must not fill a context; {refused}")
            }
        }
        (Refusal::ContextTooLarge { .. }, PromptTokens::AtMost(_)) if request.ctx.is_some() => {
            format!("ctx: {refused}")
        }
        _ => refused.to_string(),
    }
}

/// The field that holds what a context must hold.
const fn input_field(workload: Workload) -> &'static str {
    match workload {
        Workload::Completion => "prompt",
        Workload::Chat => "messages",
        Workload::Embedding | Workload::Rerank => "inputs",
    }
}

fn served_models(fleet: &Fleet) -> String {
    let mut models: Vec<&ModelId> = fleet.pools().map(|(_, pool)| &pool.report.model_id).collect();
    models.sort_unstable();
    models.dedup();
    let names: Vec<&str> = models.iter().take(NAMED_MODELS).map(|id| id.as_str()).collect();
    format!("models served here: {}", names.join(", "))
}

/// The first pool's own cause and hint: what an operator has to look at.
fn with_cause(body: ErrorBody, fleet: &Fleet, refused: &Refused) -> ErrorBody {
    let Some(pool) = refused.pools.first().and_then(|p| fleet.pool(&p.pool_id)) else {
        return body;
    };
    let body = body.with_pool(pool.report.pool_id.clone(), pool.report.engine);
    let cause = if pool.live {
        pool.report.cause
    } else {
        Some(UnreadyCause::NodeStale)
    };
    match (cause, &pool.report.hint) {
        (Some(cause), Some(hint)) if pool.live => body.with_hint(format!("{cause:?}: {hint}")),
        (Some(cause), _) => body.with_hint(format!("{cause:?}")),
        (None, _) => body,
    }
}

/// The metric label of a refusal: a closed set.
pub(super) const fn reason_label(body: &ErrorBody) -> &'static str {
    match (body.code, body.policy_label) {
        (_, Some(PolicyLabel::Reject)) => "reject",
        (_, Some(PolicyLabel::DropLru)) => "drop-lru",
        (_, Some(PolicyLabel::BudgetTokens)) => "budget-tokens",
        (_, Some(PolicyLabel::BudgetTime)) => "budget-time",
        (_, Some(PolicyLabel::BudgetCost)) => "budget-cost",
        (_, Some(PolicyLabel::RateLimit)) => "rate-limit",
        (ErrorCode::Conflict, _) => "session-turns",
        (ErrorCode::InvalidParams, _) => "invalid-params",
        (ErrorCode::DeadlineUnmet, _) => "deadline",
        (ErrorCode::NotFound, _) => "unknown-model",
        (ErrorCode::PoolUnready, _) => "pool-unready",
        (ErrorCode::Forbidden, _) => "placement-policy",
        _ => "no-feasible-pool",
    }
}
