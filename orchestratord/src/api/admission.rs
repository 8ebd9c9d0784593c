//! What happens to a task request before the dispatcher sees it: field rules, policy gates, and
//! the prompt's length.

use std::time::Duration;

use adapter_host::Target;
use api_types::{
    ErrorCode, Limits, PlacementMode, PlacementOverrides, PolicyLabel, PoolId, TaskReceipt, TaskRequest,
};
use config_schema::Placement;
use http_front::{ApiError, RequestContext};
use tokio::time::timeout;

use super::AppState;
use super::tasks::gone;
use crate::dispatcher::{Admission, Admitted, PromptTokens};

/// Tokens a tokenizer may add to a text: begin and end markers, and the leading space that some
/// vocabularies put before the first word.
const MARKER_TOKENS: u32 = 4;

/// How long an engine may take to count a prompt.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// Validates, gates, counts where needed, and admits.
///
/// # Errors
/// The refusal, ready for the client.
pub(super) async fn admit(
    state: &AppState,
    context: RequestContext,
    request: TaskRequest,
) -> Result<TaskReceipt, ApiError> {
    check(state, &request)?;
    let at_most = at_most_tokens(&request);
    match offer(state, &context, request.clone(), PromptTokens::AtMost(at_most)).await? {
        Admitted::Receipt(receipt) => Ok(receipt),
        Admitted::Refused(body) => Err((*body).into()),
        Admitted::Count { pool_id, replica_id } => {
            let target = Target::new(pool_id, replica_id);
            let counted = count(state, &target, request.prompt.as_deref().unwrap_or_default()).await?;
            decide(
                offer(
                    state,
                    &context,
                    request,
                    counted.unwrap_or(PromptTokens::AtMost(at_most)),
                )
                .await?,
            )
        }
    }
}

/// The rules of the fields and the gates of placement.
///
/// # Errors
/// The first rule or gate that is broken.
pub(super) fn check(state: &AppState, request: &TaskRequest) -> Result<(), ApiError> {
    request.validate(&Limits::CONTRACT)?;
    match &request.placement {
        Some(placement) => check_gates(placement, &state.gates),
        None => Ok(()),
    }
}

/// Every token of a text covers at least one of its bytes.
pub(super) fn at_most_tokens(request: &TaskRequest) -> u32 {
    let bytes = request.prompt.as_ref().map_or(0, String::len);
    u32::try_from(bytes)
        .unwrap_or(u32::MAX)
        .saturating_add(MARKER_TOKENS)
}

async fn offer(
    state: &AppState,
    context: &RequestContext,
    request: TaskRequest,
    prompt_tokens: PromptTokens,
) -> Result<Admitted, ApiError> {
    let admission = Admission {
        request,
        prompt_tokens,
        correlation: context.correlation_id.clone(),
        identity: context
            .identity
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    };
    state.dispatcher.admit(admission).await.map_err(gone)
}

/// The answer to a counted prompt. An engine without a tokenizer leaves the bound as the last word.
fn decide(admitted: Admitted) -> Result<TaskReceipt, ApiError> {
    match admitted {
        Admitted::Receipt(receipt) => Ok(receipt),
        Admitted::Refused(body) => Err((*body).into()),
        Admitted::Count { pool_id, .. } => Err(uncountable(&pool_id)),
    }
}

/// The bound on a prompt's tokens is too large and its engine has no tokenizer.
pub(super) fn uncountable(pool_id: &PoolId) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidParams,
        format!(
            "prompt: may be too long for the context of pool {pool_id}, whose engine cannot count its tokens"
        ),
    )
}

/// Asks an engine; `None` from one without a tokenizer.
///
/// # Errors
/// POOL_UNREADY when it does not answer.
pub(super) async fn count(
    state: &AppState,
    target: &Target,
    prompt: &str,
) -> Result<Option<PromptTokens>, ApiError> {
    let unavailable = |detail: String| {
        ApiError::new(
            ErrorCode::PoolUnready,
            format!("the engine could not count the prompt's tokens: {detail}"),
        )
    };
    match timeout(COUNT_TIMEOUT, state.host.count_tokens(target, prompt)).await {
        Ok(Ok(tokens)) => Ok(tokens.map(PromptTokens::Exactly)),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable(format!(
            "no answer within {} ms",
            COUNT_TIMEOUT.as_millis()
        ))),
    }
}

/// Overrides that this installation does not allow (ORCH-3961).
fn check_gates(placement: &PlacementOverrides, gates: &Placement) -> Result<(), ApiError> {
    let refused = [
        (
            placement.mode == PlacementMode::Pin && !gates.allow_pin,
            "placement.pin_pool_id",
        ),
        (
            placement.mode == PlacementMode::Prefer && !gates.allow_prefer,
            "placement.prefer_pools",
        ),
        (
            !placement.avoid_pools.is_empty() && !gates.allow_avoid,
            "placement.avoid_pools",
        ),
        (
            placement.require_device_mask.is_some() && !gates.allow_device_mask,
            "placement.require_device_mask",
        ),
    ];
    let Some((_, field)) = refused.into_iter().find(|(refused, _)| *refused) else {
        return Ok(());
    };
    let body = api_types::ErrorBody::new(
        ErrorCode::Forbidden,
        format!("{field}: this installation does not allow it"),
    )
    .with_policy(PolicyLabel::PlacementPolicy)
    .with_hint("see [orchestratord.placement] in the configuration");
    Err(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gate_refuses_its_field() {
        let closed = Placement {
            allow_pin: false,
            allow_prefer: false,
            allow_avoid: false,
            allow_device_mask: false,
            ..Placement::default()
        };
        let pool = || "p".parse().unwrap();
        let cases = [
            PlacementOverrides {
                mode: PlacementMode::Pin,
                pin_pool_id: Some(pool()),
                ..Default::default()
            },
            PlacementOverrides {
                mode: PlacementMode::Prefer,
                prefer_pools: vec![pool()],
                ..Default::default()
            },
            PlacementOverrides {
                avoid_pools: vec![pool()],
                ..Default::default()
            },
            PlacementOverrides {
                require_device_mask: Some("GPU-1".into()),
                ..Default::default()
            },
        ];
        for placement in cases {
            let error = check_gates(&placement, &closed).unwrap_err();
            assert_eq!(
                error.body().policy_label,
                Some(PolicyLabel::PlacementPolicy),
                "{placement:?}"
            );
            assert!(check_gates(&placement, &Placement::default()).is_ok());
        }
    }
}
