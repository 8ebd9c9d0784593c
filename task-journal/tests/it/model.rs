//! Whatever is written in whatever batches, what is read after each reopening is what a plain map holds.

use std::collections::BTreeMap;

use api_types::TaskState;
use proptest::prelude::*;
use task_journal::{Op, Store};

use crate::fixtures::{admit, edge, id};

#[derive(Debug, Clone, Copy)]
enum Step {
    Admit(u32),
    Edge(u32, TaskState, u32),
    Forget(u32),
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let task = 0_u32..12;
    let state = prop::sample::select(TaskState::ALL);
    prop_oneof![
        4 => task.clone().prop_map(Step::Admit),
        6 => (task.clone(), state, 0_u32..4).prop_map(|(n, state, attempts)| Step::Edge(n, state, attempts)),
        1 => task.prop_map(Step::Forget),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

/// Sequence, state and attempts of each task.
type Model = BTreeMap<u32, (u64, TaskState, u32)>;

fn op(step: Step, seq: u64) -> Option<Op> {
    match step {
        Step::Admit(n) => Some(admit(n, seq, 30)),
        Step::Edge(n, state, attempts) => Some(edge(n, state, attempts)),
        Step::Forget(n) => Some(Op::Forget(id(n))),
        Step::Commit | Step::Reopen => None,
    }
}

fn apply(model: &mut Model, step: Step, seq: u64) {
    match step {
        Step::Admit(n) => _ = model.insert(n, (seq, TaskState::Queued, 0)),
        Step::Edge(n, state, attempts) => {
            if let Some(task) = model.get_mut(&n) {
                (task.1, task.2) = (state, attempts);
            }
        }
        Step::Forget(n) => _ = model.remove(&n),
        Step::Commit | Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_journal_is_a_map_that_survives(steps in prop::collection::vec(step(), 0..80)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tasks.redb");
        let (mut store, _) = Store::open(&path).unwrap();
        let (mut model, mut batch) = (Model::new(), Vec::new());
        for (seq, step) in (0..).zip(steps.into_iter().chain([Step::Reopen])) {
            apply(&mut model, step, seq);
            batch.extend(op(step, seq));
            if matches!(step, Step::Commit | Step::Reopen) {
                store.write(&std::mem::take(&mut batch)).unwrap();
            }
            if matches!(step, Step::Reopen) {
                drop(store);
                let (opened, tasks) = Store::open(&path).unwrap();
                store = opened;
                let found: Model = tasks
                    .iter()
                    .map(|task| {
                        let life = &task.life;
                        (task.id.as_uuid().as_u128() as u32, (task.admission.seq, life.state, life.attempts))
                    })
                    .collect();
                prop_assert_eq!(&found, &model);
            }
        }
    }
}
