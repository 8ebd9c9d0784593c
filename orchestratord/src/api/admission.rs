//! What happens to a task request before the dispatcher sees it: field rules, policy gates, and
//! the length of its input.

use api_types::{
    ErrorCode, Limits, PlacementMode, PlacementOverrides, PolicyLabel, TaskReceipt, TaskRequest,
};
use config_schema::Placement;
use http_front::{ApiError, RequestContext};

use super::AppState;
use super::measure::{self, InputTokens};
use super::sessions::identity_of;
use super::tasks::gone;
use crate::dispatcher::{Admission, Admitted, Tokenizer};

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
    let bounds = measure::bounds(&request);
    match offer(state, &context, request.clone(), bounds).await? {
        Admitted::Receipt(receipt) => Ok(receipt),
        Admitted::Refused(body) => Err((*body).into()),
        Admitted::Count(tokenizer) => {
            let counted = measure::count(&state.host, &tokenizer, &request).await?;
            decide(
                offer(
                    state,
                    &context,
                    request,
                    counted.unwrap_or_else(|| bounds.last_word()),
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

async fn offer(
    state: &AppState,
    context: &RequestContext,
    request: TaskRequest,
    tokens: InputTokens,
) -> Result<Admitted, ApiError> {
    let trace = state
        .artifacts
        .as_ref()
        .and_then(|artifacts| artifacts.trace(&request));
    let admission = Admission {
        request,
        prompt_tokens: tokens.longest,
        total_tokens: tokens.total,
        correlation: context.correlation_id.clone(),
        identity: identity_of(context),
        in_flight: state.journal.as_ref().map(|journal| journal.in_flight()),
        trace,
    };
    state.dispatcher.admit(admission).await.map_err(gone)
}

/// The answer to a counted prompt. An engine without a tokenizer leaves the bound as the last word.
fn decide(admitted: Admitted) -> Result<TaskReceipt, ApiError> {
    match admitted {
        Admitted::Receipt(receipt) => Ok(receipt),
        Admitted::Refused(body) => Err((*body).into()),
        Admitted::Count(tokenizer) => Err(uncountable(&tokenizer)),
    }
}

/// The bound on an input's tokens is too large and its engine has no tokenizer.
pub(super) fn uncountable(tokenizer: &Tokenizer) -> ApiError {
    let message = format!(
        "the input may be too long for the {} tokens of a context: the engine of pool {} cannot count its tokens",
        tokenizer.ctx_max, tokenizer.pool_id
    );
    ApiError::new(ErrorCode::InvalidParams, message)
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
