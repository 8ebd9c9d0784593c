//! Checks of a `TaskRequest` that need no model and no state. Checks against a model's context
//! belong to placement.

use std::fmt;

use crate::placement::{PlacementMode, PlacementOverrides};
use crate::task::{Sampling, TaskRequest};

mod input;

/// Bounds that hold whatever the model. Beyond them a request is a mistake or an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest prompt, bytes; also all messages of a chat together, and all inputs with their query.
    pub prompt_bytes: usize,
    /// Most messages of a chat.
    pub messages: usize,
    /// Most inputs to embed or rank.
    pub inputs: usize,
    /// Most stop texts.
    pub stops: usize,
    /// Longest stop text, bytes.
    pub stop_bytes: usize,
    /// Most pools in one placement list.
    pub placement_pools: usize,
    /// Longest deadline, ms.
    pub deadline_ms: u64,
}

impl Limits {
    /// The contract's bounds.
    pub const CONTRACT: Self = Self {
        prompt_bytes: 1 << 20,
        messages: 1024,
        inputs: 2048,
        stops: 16,
        stop_bytes: 256,
        placement_pools: 64,
        deadline_ms: 7 * 24 * 3_600_000,
    };
}

/// A field that breaks its rule: which one, and the rule with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, e.g. `sampling.temperature`.
    pub field: &'static str,
    /// The rule and the offending value.
    pub rule: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl std::error::Error for FieldError {}

type Checked = Result<(), FieldError>;

fn ensure(ok: bool, field: &'static str, rule: impl FnOnce() -> String) -> Checked {
    if ok {
        Ok(())
    } else {
        Err(FieldError { field, rule: rule() })
    }
}

impl TaskRequest {
    /// Checks everything that can be checked without knowing the model.
    ///
    /// # Errors
    /// The first [`FieldError`] in field order.
    pub fn validate(&self, limits: &Limits) -> Checked {
        self.check_input(limits)?;
        self.check_generation()?;
        ensure(self.ctx != Some(0), "ctx", || "must be at least 1 token".into())?;
        ensure(self.max_tokens != Some(0), "max_tokens", || {
            "must be at least 1".into()
        })?;
        ensure(self.seed != Some(u32::MAX), "seed", || {
            "must be 0 to 4294967294".into()
        })?;
        ensure(
            self.deadline_ms
                .is_none_or(|ms| (1..=limits.deadline_ms).contains(&ms)),
            "deadline_ms",
            || format!("must be 1 to {} ms", limits.deadline_ms),
        )?;
        self.sampling.validate(limits)?;
        self.placement
            .as_ref()
            .map_or(Ok(()), |placement| placement.validate(limits))
    }
}

impl Sampling {
    fn validate(&self, limits: &Limits) -> Checked {
        range(self.temperature, "sampling.temperature", 0.0, 2.0)?;
        range(self.top_p, "sampling.top_p", f64::MIN_POSITIVE, 1.0)?;
        range(self.min_p, "sampling.min_p", 0.0, 1.0)?;
        range(
            self.repeat_penalty,
            "sampling.repeat_penalty",
            f64::MIN_POSITIVE,
            2.0,
        )?;
        range(self.presence_penalty, "sampling.presence_penalty", -2.0, 2.0)?;
        range(self.frequency_penalty, "sampling.frequency_penalty", -2.0, 2.0)?;
        ensure(self.stop.len() <= limits.stops, "sampling.stop", || {
            format!(
                "has {} texts, at most {} are allowed",
                self.stop.len(),
                limits.stops
            )
        })?;
        let fits = |stop: &String| (1..=limits.stop_bytes).contains(&stop.len());
        ensure(self.stop.iter().all(fits), "sampling.stop", || {
            format!("every text must have 1 to {} bytes", limits.stop_bytes)
        })
    }
}

fn range(value: Option<f64>, field: &'static str, min: f64, max: f64) -> Checked {
    let Some(value) = value else { return Ok(()) };
    // MIN_POSITIVE stands for "above 0" and prints badly.
    let low = if min > 0.0 {
        "above 0".to_owned()
    } else {
        format!("{min}")
    };
    ensure(value.is_finite() && (min..=max).contains(&value), field, || {
        format!("is {value}, must be {low} to {max}")
    })
}

impl PlacementOverrides {
    /// Whether the parts fit together.
    ///
    /// # Errors
    /// [`FieldError`] for a pin without a pool, a list without its mode, or too long a list.
    pub fn validate(&self, limits: &Limits) -> Checked {
        let pin = self.mode == PlacementMode::Pin;
        ensure(self.pin_pool_id.is_some() == pin, "placement.pin_pool_id", || {
            "is required with mode pin, and only with it".into()
        })?;
        let prefer = self.mode == PlacementMode::Prefer;
        ensure(
            self.prefer_pools.is_empty() != prefer,
            "placement.prefer_pools",
            || "is required with mode prefer, and only with it".into(),
        )?;
        for (field, list) in [
            ("placement.prefer_pools", &self.prefer_pools),
            ("placement.avoid_pools", &self.avoid_pools),
        ] {
            ensure(list.len() <= limits.placement_pools, field, || {
                format!(
                    "has {} pools, at most {} are allowed",
                    list.len(),
                    limits.placement_pools
                )
            })?;
        }
        let pinned_and_avoided = self
            .pin_pool_id
            .as_ref()
            .is_some_and(|pin| self.avoid_pools.contains(pin));
        ensure(!pinned_and_avoided, "placement.avoid_pools", || {
            "must not contain the pinned pool".into()
        })?;
        ensure(
            self.require_device_mask.as_deref() != Some(""),
            "placement.require_device_mask",
            || "must name at least one GPU UUID".into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Workload;

    fn parse(json: serde_json::Value) -> Result<TaskRequest, String> {
        let request: TaskRequest = serde_json::from_value(json).map_err(|e| e.to_string())?;
        request.validate(&Limits::CONTRACT).map_err(|e| e.to_string())?;
        Ok(request)
    }

    #[test]
    fn minimal_request_passes_with_defaults() {
        let request = parse(serde_json::json!({"model_ref": "tiny", "prompt": "hi"})).unwrap();
        assert_eq!(request.priority, crate::Priority::Interactive);
        assert_eq!(request.workload, Workload::Completion);
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let cases = [
            (serde_json::json!({"prompt": "x"}), "model_ref"),
            (
                serde_json::json!({"model_ref": "m", "prompt": ""}),
                "prompt: must not be empty",
            ),
            (serde_json::json!({"model_ref": "m"}), "prompt: is required"),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "messages": []}),
                "messages: does not belong",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "colour": 1}),
                "unknown field `colour`",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "max_tokens": 0}),
                "max_tokens: must be at least 1",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "seed": 4_294_967_295u64}),
                "seed",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "sampling": {"temperature": 3}}),
                "sampling.temperature: is 3",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "sampling": {"top_p": 0}}),
                "sampling.top_p: is 0, must be above 0",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "placement": {"mode": "pin"}}),
                "placement.pin_pool_id",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "placement": {"prefer_pools": ["a"]}}),
                "placement.prefer_pools",
            ),
            (
                serde_json::json!({"model_ref": "m", "prompt": "x", "deadline_ms": 0}),
                "deadline_ms",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(json.clone()).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn prompt_limit_is_named_with_its_numbers() {
        let long = "x".repeat((1 << 20) + 1);
        let error = parse(serde_json::json!({"model_ref": "m", "prompt": long})).unwrap_err();
        assert_eq!(error, "prompt: has 1048577 bytes, at most 1048576 are allowed");
    }
}
