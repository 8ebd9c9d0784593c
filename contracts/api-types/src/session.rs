//! Sessions: what their budgets still allow, and what the API tells of one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// Parts of a unit of cost that are counted: nothing smaller is ever charged.
const NANOS: u64 = 1_000_000_000;

/// An amount in the operator's unit of cost, counted in billionths so that sums are exact. On the wire
/// a plain number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = f64)]
pub struct Cost(u64);

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// That many billionths of a unit.
    #[must_use]
    pub const fn of_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In billionths of a unit.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The nearest amount to a number of units; negative numbers and NaN are nothing.
    #[must_use]
    pub fn of_units(units: f64) -> Self {
        // Converting to an integer saturates.
        Self((units * NANOS as f64).round() as u64)
    }

    /// In units, as near as a float comes.
    #[must_use]
    pub fn units(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }
}

impl fmt::Display for Cost {
    /// The exact decimal number, without trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / NANOS, self.0 % NANOS);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.units())
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self::of_units)
    }
}

/// What a session may still ask for: its limits less what was charged and what its live tasks hold.
/// Absent where there is no such budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetsRemaining {
    /// Tokens, prompt and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_budget_remaining: Option<u64>,
    /// Time on engines, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_budget_remaining_ms: Option<u64>,
    /// Cost, in the operator's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_budget_remaining: Option<Cost>,
}

/// `GET /v1/sessions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionStatus {
    /// When the session ends unless it is used, ms from now. A session with live tasks does not end.
    pub ttl_ms_remaining: u64,
    /// Turns taken: admitted tasks, less those that ended without having had a slot.
    pub turns: u32,
    /// Turns that the session may have.
    pub turns_max: u32,
    /// Its tasks that wait or run.
    pub tasks_live: u32,
    /// Size of what its engine holds of it: 0 when that is nothing, absent when the engine does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_bytes: Option<u64>,
    /// The same in tokens, as the engine counted them in the last turn.
    pub kv_tokens: u64,
    /// Whether the engine process of its last turn is still there and ready, so that the next turn may reuse
    /// what it holds.
    pub kv_warmth: bool,
    /// The pool of its last turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<crate::ids::PoolId>,
    /// Tokens charged so far.
    pub tokens_spent: u64,
    /// Time charged so far, ms.
    pub time_spent_ms: u64,
    /// Cost charged so far; absent while no price is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_spent: Option<Cost>,
    /// What its budgets still allow.
    #[serde(flatten)]
    pub budgets: BudgetsRemaining,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_an_exact_decimal() {
        for (nanos, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (1_250_000_000, "1.25"),
            (3_000_000_000, "3"),
        ] {
            assert_eq!(Cost::of_nanos(nanos).to_string(), text);
            assert_eq!(Cost::of_units(text.parse().unwrap()), Cost::of_nanos(nanos));
        }
        assert_eq!(Cost::of_units(-1.0), Cost::ZERO);
        assert_eq!(Cost::of_units(f64::NAN), Cost::ZERO);
        let json = serde_json::to_string(&Cost::of_nanos(1_250_000_000)).unwrap();
        assert_eq!(json, "1.25");
        assert_eq!(
            serde_json::from_str::<Cost>(&json).unwrap(),
            Cost::of_nanos(1_250_000_000)
        );
    }

    #[test]
    fn budgets_that_do_not_exist_are_left_out() {
        assert_eq!(serde_json::to_string(&BudgetsRemaining::default()).unwrap(), "{}");
    }
}
