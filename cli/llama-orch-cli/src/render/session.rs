//! One session: how long it lasts, what it has used, what it may still ask for.

use api_types::{SessionId, SessionStatus};

use super::table::pairs;
use super::text::duration;

pub(crate) fn show(id: &SessionId, session: &SessionStatus) -> String {
    let budgets = &session.budgets;
    let of = |spent: String, left: Option<String>| match left {
        Some(left) => format!("{spent} used, {left} left"),
        None => format!("{spent} used"),
    };
    let warmth = match (session.kv_warmth, &session.pool_id) {
        (true, Some(pool)) => format!("warm on {pool}, {} tokens", session.kv_tokens),
        _ => "cold".to_owned(),
    };
    let tokens_left = budgets.tokens_budget_remaining.map(|left| left.to_string());
    let time_left = budgets.time_budget_remaining_ms.map(duration);
    let cost_left = budgets.cost_budget_remaining.map(|left| left.to_string());
    pairs(&[
        ("session", Some(id.to_string())),
        (
            "ends",
            Some(format!("in {} unless used", duration(session.ttl_ms_remaining))),
        ),
        (
            "turns",
            Some(format!("{} of {}", session.turns, session.turns_max)),
        ),
        ("live tasks", Some(session.tasks_live.to_string())),
        ("cache", Some(warmth)),
        ("tokens", Some(of(session.tokens_spent.to_string(), tokens_left))),
        ("time", Some(of(duration(session.time_spent_ms), time_left))),
        (
            "cost",
            session.cost_spent.map(|spent| of(spent.to_string(), cost_left)),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_session_with_budgets_and_one_without() {
        let id = "chat-1".parse().unwrap();
        let (full, bare) = samples::sessions();
        insta::assert_snapshot!("session", show(&id, &full));
        insta::assert_snapshot!("session_bare", show(&id, &bare));
    }
}
