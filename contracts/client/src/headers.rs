//! Facts that the contract puts into headers.

use http::HeaderMap;

/// What is left of the session's budgets after a task was admitted; absent where there is no budget.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budgets {
    /// `X-Budget-Tokens-Remaining`.
    pub tokens_remaining: Option<u64>,
    /// `X-Budget-Time-Remaining-Ms`.
    pub time_remaining_ms: Option<u64>,
    /// `X-Budget-Cost-Remaining`, in the operator's unit.
    pub cost_remaining: Option<f64>,
}

impl Budgets {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        Self {
            tokens_remaining: number(headers, "x-budget-tokens-remaining"),
            time_remaining_ms: number(headers, "x-budget-time-remaining-ms"),
            cost_remaining: number(headers, "x-budget-cost-remaining"),
        }
    }
}

/// The header as text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    text(headers, name)?.trim().parse().ok()
}
