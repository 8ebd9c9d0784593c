//! REQ-QUEUE-PER-POOL: the lines of the pools against a plain list.

use api_types::{PoolId, Priority, TaskId};
use orchestrator_core::queue::{Lines, RefusedBecause, Ticket};
use proptest::prelude::*;

use super::fixtures::{pool_id, task};

const POOLS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Op {
    /// A newcomer that these pools could serve.
    Arrive(u32, Priority, Vec<&'static str>),
    Leave(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let pools = prop::sample::subsequence(&POOLS[..], 1..=3);
    let priority = prop::sample::select(Priority::ALL);
    prop_oneof![
        3 => (0u32..40, priority, pools).prop_map(|(n, priority, pools)| Op::Arrive(n, priority, pools)),
        2 => (0u32..40).prop_map(Op::Leave),
    ]
}

/// In order of arrival.
type Model = Vec<(Ticket, PoolId)>;

fn line<'m>(model: &'m Model, pool: &PoolId) -> Vec<&'m Ticket> {
    let own = model.iter().filter(|(_, line)| line == pool);
    own.map(|(ticket, _)| ticket).collect()
}

fn victim(model: &Model, pool: &PoolId, newcomer: Priority) -> Option<TaskId> {
    let first = |class| {
        line(model, pool)
            .into_iter()
            .find(|ticket| ticket.priority == class)
    };
    let batch = first(Priority::Batch);
    let found = match newcomer {
        Priority::Interactive => batch.or_else(|| first(Priority::Interactive)),
        Priority::Batch => batch,
    };
    found.map(|ticket| ticket.id)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_a_plain_list(capacity in 1usize..6, ops in prop::collection::vec(op(), 0..200)) {
        let mut lines = Lines::new(capacity);
        let mut model = Model::new();
        for (seq, op) in (0u64..).zip(ops) {
            match op {
                Op::Leave(n) => {
                    lines.leave(&task(n));
                    model.retain(|(ticket, _)| ticket.id != task(n));
                }
                Op::Arrive(n, priority, pools) => {
                    let pools: Vec<PoolId> = pools.into_iter().map(pool_id).collect();
                    let chosen = lines.shortest(&pools).unwrap().clone();
                    let lengths = pools.iter().map(|pool| (line(&model, pool).len(), pool));
                    prop_assert_eq!(Some(&chosen), lengths.min().map(|(_, pool)| pool));
                    let full = line(&model, &chosen).len() >= capacity;
                    prop_assert_eq!(lines.is_full(&chosen), full);
                    match (victim(&model, &chosen, priority), lines.victim(&chosen, priority)) {
                        (Some(expected), told) => prop_assert_eq!(told, Ok(expected)),
                        (None, told) => {
                            let full = matches!(told, Err(RefusedBecause::LineFull { .. }));
                            prop_assert!(full);
                        }
                    }
                    if !full {
                        let ticket = Ticket { id: task(n), priority, enqueued_at_ms: seq, seq };
                        model.retain(|(known, _)| known.id != ticket.id);
                        model.push((ticket, chosen.clone()));
                        lines.join(&ticket, &chosen);
                    }
                }
            }
            for pool in POOLS.map(pool_id) {
                prop_assert_eq!(lines.len(&pool), line(&model, &pool).len());
                prop_assert_eq!(lines.pools().any(|known| *known == pool), lines.len(&pool) > 0);
                let batch = line(&model, &pool).iter().filter(|ticket| ticket.priority == Priority::Batch).count();
                prop_assert_eq!(lines.len_of(&pool, Priority::Batch), batch);
            }
            prop_assert_eq!(lines.total(), model.len());
            for (ticket, pool) in &model {
                prop_assert_eq!(lines.line_of(&ticket.id), Some(pool));
            }
        }
    }
}
