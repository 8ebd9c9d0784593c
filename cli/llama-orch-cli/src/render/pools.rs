//! Pools: a table of all, the health of one.

use api_types::operation::{OperationPhase, OperationState, OperationStatus};
use api_types::pool::{PoolHealth, PoolStatus};
use api_types::{PoolId, PoolList};

use super::table::{Look, Tone, cell, draw, pairs, toned};
use super::text::{clean_line, gpu, wire};

pub(crate) fn list(list: &PoolList, look: Look) -> String {
    let header = [
        "POOL",
        "NODE",
        "MODEL",
        "ENGINE",
        "STATE",
        "SLOTS FREE",
        "CTX",
        "GPUS",
    ];
    let rows = list.pools.iter().map(|pool| {
        let (state, tone) = state(&pool.health);
        let gpus: Vec<_> = pool.device_mask.iter().map(|uuid| gpu(uuid)).collect();
        vec![
            cell(pool.pool_id.as_str()),
            cell(pool.node_id.as_str()),
            cell(pool.model_id.as_str()),
            cell(engine(pool)),
            toned(state, tone, look),
            cell(format!("{}/{}", pool.slots_free, pool.slots_total)),
            cell(pool.ctx_max.to_string()),
            cell(gpus.join(" ")),
        ]
    });
    draw(look, &header, rows)
}

/// What to do about the pools that are not ready: one line each, below the table.
pub(crate) fn advice(list: &PoolList) -> Vec<String> {
    let unready = list.pools.iter().filter(|pool| !pool.health.ready);
    unready
        .filter_map(|pool| {
            let hint = pool.health.hint.as_deref()?;
            Some(format!("{}: {}", pool.pool_id, clean_line(hint)))
        })
        .collect()
}

pub(crate) fn health(pool: &PoolId, health: &PoolHealth) -> String {
    let metrics = &health.metrics;
    pairs(&[
        ("pool", Some(pool.to_string())),
        ("state", Some(state(health).0)),
        ("hint", health.hint.clone()),
        ("last error", health.last_error.clone()),
        (
            "slots",
            Some(format!("{} of {} free", metrics.slots_free, metrics.slots_total)),
        ),
        ("tasks", Some(metrics.active_leases.to_string())),
        ("restarts", Some(metrics.restarts.to_string())),
        ("generation", Some(health.generation.to_string())),
        ("operation", health.last_operation.as_ref().map(told)),
    ])
}

/// What an operation is at, for those who wait for it.
pub(crate) fn phase(operation: &OperationStatus) -> String {
    let what = match operation.phase {
        OperationPhase::Steady => "nothing is to be done",
        OperationPhase::Checking => "the model is looked at",
        OperationPhase::Loading => "the engines load the model",
        OperationPhase::Beside => "the new model loads beside the old one, which goes on serving",
        OperationPhase::Draining => "no new work is taken, running tasks finish",
        OperationPhase::Stopping => "the engines end",
        OperationPhase::Swapping => "the new model loads in place of the old one",
        OperationPhase::Clearing => "the new model has failed, its engines end",
        OperationPhase::Restoring => "the old model is loaded again",
    };
    with_reason(what, operation)
}

/// How it ended.
pub(crate) fn ended(pool: &PoolId, operation: &OperationStatus) -> String {
    format!("{pool}: {}\n", told(operation))
}

/// `reload file:/m.gguf: failed: why`.
fn told(operation: &OperationStatus) -> String {
    let state = match operation.state {
        OperationState::Running => phase(operation),
        OperationState::Succeeded => with_reason("done", operation),
        OperationState::Failed => with_reason("failed", operation),
    };
    let kind = operation.kind.as_str();
    match &operation.model_ref {
        Some(model) => format!("{kind} {model}: {state}"),
        None => format!("{kind}: {state}"),
    }
}

fn with_reason(what: &str, operation: &OperationStatus) -> String {
    match &operation.reason {
        Some(reason) => format!("{what}: {}", clean_line(reason)),
        None => what.to_owned(),
    }
}

fn engine(pool: &PoolStatus) -> String {
    match &pool.engine_version {
        Some(version) => format!("{} {version}", pool.engine),
        None => pool.engine.to_string(),
    }
}

/// One word where one will do; the cause where not.
fn state(health: &PoolHealth) -> (String, Tone) {
    let cause = health.cause.as_ref().map(wire);
    match (health.live, health.draining, health.ready, cause) {
        (false, ..) => ("silent".to_owned(), Tone::Bad),
        (true, true, ..) => ("draining".to_owned(), Tone::Doubtful),
        (true, false, true, _) => ("ready".to_owned(), Tone::Good),
        (true, false, false, Some(cause)) => (cause, Tone::Bad),
        (true, false, false, None) => ("not ready".to_owned(), Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples;

    #[test]
    fn a_table_of_pools() {
        insta::assert_snapshot!("pools", list(&samples::pools(), Look::Piped));
        insta::assert_snapshot!("pools_advice", advice(&samples::pools()).join("\n"));
    }

    #[test]
    fn the_state_is_coloured_only_where_colours_are() {
        assert!(!list(&samples::pools(), Look::Piped).contains('\x1b'));
        assert!(!list(&samples::pools(), Look::Plain).contains('\x1b'));
    }

    #[test]
    fn no_pools_leave_the_header() {
        let none = PoolList { pools: Vec::new() };
        assert_eq!(list(&none, Look::Piped).lines().count(), 1);
    }

    #[test]
    fn the_health_of_a_pool() {
        let pools = samples::pools();
        let pool = &pools.pools[1];
        insta::assert_snapshot!("pool_health", health(&pool.pool_id, &pool.health));
    }
}
