//! The headers that repeat what a session's budgets still allow.

use api_types::BudgetsRemaining;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Tokens.
const TOKENS: HeaderName = HeaderName::from_static("x-budget-tokens-remaining");

/// Milliseconds.
const TIME: HeaderName = HeaderName::from_static("x-budget-time-remaining-ms");

/// A decimal number in the operator's unit.
const COST: HeaderName = HeaderName::from_static("x-budget-cost-remaining");

/// One header for each budget that exists.
#[must_use]
pub fn budget_headers(budgets: &BudgetsRemaining) -> HeaderMap {
    // Digits and a point are a valid header value.
    let cost = budgets
        .cost_budget_remaining
        .and_then(|cost| HeaderValue::from_str(&cost.to_string()).ok());
    let values = [
        (TOKENS, budgets.tokens_budget_remaining.map(HeaderValue::from)),
        (TIME, budgets.time_budget_remaining_ms.map(HeaderValue::from)),
        (COST, cost),
    ];
    let present = values
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    present.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::Cost;

    #[test]
    fn one_header_for_each_budget_that_exists() {
        assert!(budget_headers(&BudgetsRemaining::default()).is_empty());
        let headers = budget_headers(&BudgetsRemaining {
            tokens_budget_remaining: Some(7),
            time_budget_remaining_ms: Some(0),
            cost_budget_remaining: Some(Cost::of_units(0.25)),
        });
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("x-budget-tokens-remaining"), "7");
        assert_eq!(text("x-budget-time-remaining-ms"), "0");
        assert_eq!(text("x-budget-cost-remaining"), "0.25");
    }
}
