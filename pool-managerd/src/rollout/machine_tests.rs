//! Tests of the rollout: each way through the phases by name, and what holds on all of them.

use api_types::ModelId;
use api_types::operation::{DesiredPool, ModelChoice, OperationKind, OperationPhase, OperationState};
use api_types::pool::UnreadyCause;
use proptest::prelude::*;
use uuid::Uuid;

use super::{Rollout, Side, SideGoal, SideView, World};
use crate::trouble::Unready;

const DEADLINE_MS: u64 = 1_000;
const PATIENCE_MS: u64 = 5_000;
const RETRY_AFTER_MS: u64 = 100_000;

fn model(name: &str) -> ModelChoice {
    ModelChoice {
        model_ref: format!("file:/{name}.gguf").parse().unwrap(),
        model_id: ModelId::new(name).unwrap(),
    }
}

fn desired(generation: u64, kind: OperationKind, name: Option<&str>) -> DesiredPool {
    DesiredPool {
        pool_id: "p".parse().unwrap(),
        generation,
        operation_id: Uuid::from_u128(u128::from(generation)),
        kind,
        model: name.map(model),
        deadline_ms: DEADLINE_MS,
    }
}

/// What one side's engines do by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Engine {
    #[default]
    Stopped,
    Loading(ModelChoice),
    Ready(ModelChoice),
    /// Failed to start.
    Broken(ModelChoice),
}

/// A pool and its engines, which do what they are told one thing at a time.
struct Pool {
    rollout: Rollout,
    engines: [Engine; 2],
    leases: [Option<u32>; 2],
    now_ms: u64,
    /// Whether two models fit.
    room: bool,
    /// Models that cannot be loaded.
    bad: Vec<ModelChoice>,
    missing: Vec<ModelChoice>,
}

impl Pool {
    fn serving(name: &str) -> Self {
        let mut pool = Self {
            rollout: Rollout::new(model(name), true),
            engines: [Engine::Stopped, Engine::Stopped],
            leases: [None, None],
            now_ms: 1,
            room: true,
            bad: Vec::new(),
            missing: Vec::new(),
        };
        pool.settle();
        pool
    }

    fn world(&self) -> World {
        let side = |side: Side| {
            let engine = &self.engines[side.index()];
            let broken = matches!(engine, Engine::Broken(_));
            SideView {
                stopped: *engine == Engine::Stopped,
                ready: matches!(engine, Engine::Ready(_)),
                failure: broken.then(|| Unready::new(UnreadyCause::BadModel, "it is broken")),
                blocked: None,
                given_up: broken,
                leases: self.leases[side.index()],
            }
        };
        let is_missing = |model: &ModelChoice| self.missing.contains(model);
        World {
            now_ms: self.now_ms,
            sides: Side::BOTH.map(side),
            candidate: match self.rollout.candidate() {
                Some(model) if is_missing(model) => Err(Unready::new(UnreadyCause::ModelMissing, "no file")),
                _ => Ok(()),
            },
            room_beside: if self.room {
                Ok(())
            } else {
                Err(Unready::new(UnreadyCause::VramInsufficient, "no room"))
            },
            patience_ms: PATIENCE_MS,
            retry_after_ms: RETRY_AFTER_MS,
        }
    }

    fn advance(&mut self) {
        let world = self.world();
        self.rollout.advance(&world);
    }

    /// One engine makes one step towards its goal. Whether it had one to make.
    fn act(&mut self, side: Side) -> bool {
        let goal = self.rollout.goals()[side.index()].clone();
        let engine = self.engines[side.index()].clone();
        let next = match (goal.model(), &engine) {
            (None, Engine::Stopped) => return false,
            (None, _) => Engine::Stopped,
            (Some(wanted), Engine::Stopped) if !self.missing.contains(wanted) => {
                Engine::Loading(wanted.clone())
            }
            (Some(wanted), Engine::Loading(loads)) if loads == wanted => {
                if self.bad.contains(wanted) {
                    Engine::Broken(wanted.clone())
                } else {
                    Engine::Ready(wanted.clone())
                }
            }
            (Some(wanted), Engine::Loading(has) | Engine::Ready(has) | Engine::Broken(has))
                if has != wanted =>
            {
                Engine::Stopped
            }
            _ => return false,
        };
        self.engines[side.index()] = next;
        true
    }

    /// Until nothing moves any more; tasks end within their time.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.advance();
            self.now_ms += 100;
            let moved = Side::BOTH.into_iter().filter(|side| self.act(*side)).count();
            if moved == 0 && !self.rollout.is_busy() && self.rollout.retiring.is_none() {
                return;
            }
        }
        panic!("does not settle: {:?} {:?}", self.rollout, self.engines);
    }

    fn order(&mut self, desired: &DesiredPool) {
        assert!(self.rollout.take_up(desired, self.now_ms), "{desired:?}");
    }

    fn serves(&self) -> Option<&str> {
        match (
            &self.rollout.goals()[self.rollout.serving().index()],
            &self.engines[self.rollout.serving().index()],
        ) {
            (SideGoal::Run(wanted), Engine::Ready(has)) if wanted == has => Some(has.model_id.as_str()),
            _ => None,
        }
    }

    fn state(&self) -> OperationState {
        self.rollout.status().unwrap().state
    }
}

#[test]
fn with_room_the_new_model_loads_beside_the_old_one() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(1, OperationKind::Reload, Some("new")));
    for _ in 0..10 {
        pool.advance();
        if pool.rollout.status().unwrap().phase == OperationPhase::Beside {
            break;
        }
    }
    assert_eq!(pool.serves(), Some("old"), "it goes on serving");
    pool.act(Side::B);
    pool.act(Side::B);
    pool.advance();
    assert_eq!(
        (pool.serves(), pool.state()),
        (Some("new"), OperationState::Succeeded)
    );
    // Nobody has told what runs on the old side, so it has its time.
    assert_eq!(pool.rollout.goals()[0], SideGoal::Finish(model("old")));
    pool.leases[0] = Some(1);
    pool.advance();
    assert_eq!(pool.rollout.goals()[0], SideGoal::Finish(model("old")));
    pool.leases[0] = Some(0);
    pool.advance();
    assert_eq!(pool.rollout.goals()[0], SideGoal::Stop);
    assert_eq!(pool.rollout.changes(), 2);
}

#[test]
fn without_room_the_old_model_finishes_and_ends_first() {
    let mut pool = Pool::serving("old");
    pool.room = false;
    pool.leases[0] = Some(1);
    pool.order(&desired(1, OperationKind::Reload, Some("new")));
    pool.advance();
    assert!(pool.rollout.refuses_work());
    assert_eq!(
        pool.rollout.goals(),
        [SideGoal::Finish(model("old")), SideGoal::Stop]
    );
    pool.leases[0] = Some(0);
    pool.settle();
    assert_eq!(
        (pool.serves(), pool.state()),
        (Some("new"), OperationState::Succeeded)
    );
}

#[test]
fn a_task_that_does_not_end_is_waited_for_until_the_deadline_only() {
    let mut pool = Pool::serving("old");
    pool.leases[0] = Some(3);
    pool.order(&desired(1, OperationKind::Drain, None));
    pool.now_ms += DEADLINE_MS - 1;
    pool.advance();
    assert_eq!(pool.rollout.goals()[0], SideGoal::Finish(model("old")));
    pool.now_ms += 1;
    pool.advance();
    assert_eq!(pool.rollout.goals()[0], SideGoal::Stop);
    pool.settle();
    assert!(pool.rollout.refuses_work());
    assert!(!pool.rollout.is_unloaded(), "drained, not just unloaded");
}

#[test]
fn a_new_model_that_fails_leaves_the_old_one() {
    for (room, missing) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut pool = Pool::serving("old");
        pool.room = room;
        let list = if missing { &mut pool.missing } else { &mut pool.bad };
        list.push(model("new"));
        pool.order(&desired(1, OperationKind::Reload, Some("new")));
        pool.settle();
        let status = pool.rollout.status().unwrap();
        assert_eq!(
            (pool.serves(), status.state),
            (Some("old"), OperationState::Failed),
            "{status:?}"
        );
        let reason = status.reason.unwrap();
        assert!(
            reason.contains(if missing { "no file" } else { "it is broken" }),
            "{reason}"
        );
        assert!(!pool.rollout.refuses_work());
    }
}

#[test]
fn an_unloaded_pool_loads_what_is_asked_for_and_goes_back_where_that_fails() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(1, OperationKind::Unload, None));
    pool.settle();
    assert!(pool.rollout.is_unloaded());
    pool.bad.push(model("bad"));
    pool.order(&desired(2, OperationKind::Load, Some("bad")));
    pool.settle();
    assert_eq!(pool.state(), OperationState::Failed);
    assert!(pool.rollout.is_unloaded());
    pool.order(&desired(3, OperationKind::Load, Some("new")));
    pool.settle();
    assert_eq!(pool.serves(), Some("new"));
}

/// REQ-MODEL-DEMAND.
#[test]
fn a_load_that_failed_is_remembered_until_its_time_or_a_load_that_does_not() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(1, OperationKind::Unload, None));
    pool.settle();
    pool.bad.push(model("bad"));
    pool.order(&desired(2, OperationKind::Load, Some("bad")));
    pool.settle();
    let failed = |pool: &Pool, now_ms| pool.rollout.failed_load(&model("bad"), now_ms).map(str::to_owned);
    assert_eq!(failed(&pool, pool.now_ms).as_deref(), Some("it is broken"));
    assert_eq!(failed(&pool, pool.now_ms + RETRY_AFTER_MS), None);
    assert_eq!(pool.rollout.failed_load(&model("old"), pool.now_ms), None);
    pool.bad.clear();
    pool.order(&desired(3, OperationKind::Load, Some("bad")));
    pool.settle();
    assert_eq!((pool.serves(), failed(&pool, pool.now_ms)), (Some("bad"), None));
}

/// REQ-OPERATION-RELOAD.
#[test]
fn a_reload_to_the_same_model_takes_the_file_anew() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(1, OperationKind::Reload, Some("old")));
    pool.settle();
    assert_eq!(
        (pool.serves(), pool.rollout.serving(), pool.rollout.changes()),
        (Some("old"), Side::B, 2)
    );
    pool.order(&desired(2, OperationKind::Load, Some("old")));
    pool.settle();
    assert_eq!(
        (pool.state(), pool.rollout.changes()),
        (OperationState::Succeeded, 2),
        "a load has nothing to do"
    );
}

#[test]
fn a_drain_lasts_until_a_load() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(1, OperationKind::Drain, None));
    pool.settle();
    assert!(pool.rollout.refuses_work());
    pool.order(&desired(2, OperationKind::Load, None));
    pool.settle();
    assert_eq!(pool.serves(), Some("old"));
    assert!(!pool.rollout.refuses_work());
}

#[test]
fn an_older_operation_and_one_beside_another_are_not_taken_up() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(5, OperationKind::Reload, Some("new")));
    assert!(
        !pool
            .rollout
            .take_up(&desired(6, OperationKind::Drain, None), pool.now_ms)
    );
    pool.settle();
    assert!(
        !pool
            .rollout
            .take_up(&desired(5, OperationKind::Drain, None), pool.now_ms)
    );
    assert!(
        pool.rollout
            .take_up(&desired(6, OperationKind::Drain, None), pool.now_ms)
    );
}

#[test]
fn another_configuration_voids_the_record_but_not_the_count() {
    let mut pool = Pool::serving("old");
    pool.order(&desired(7, OperationKind::Reload, Some("new")));
    let same = Rollout::new(model("old"), true).resumed(Some(pool.rollout.clone()));
    assert_eq!(same, pool.rollout);
    let other = Rollout::new(model("other"), true).resumed(Some(pool.rollout.clone()));
    assert_eq!((other.model(), other.generation()), (&model("other"), 7));
    assert_eq!(other.status().unwrap().state, OperationState::Failed);
}

fn kinds() -> impl Strategy<Value = OperationKind> {
    prop_oneof![
        Just(OperationKind::Drain),
        Just(OperationKind::Reload),
        Just(OperationKind::Load),
        Just(OperationKind::Unload),
    ]
}

proptest! {
    /// Whatever is ordered, whatever fails, however the daemon restarts in between: every operation ends, a reload leaves
    /// the new or the old model served, two models never run where only one fits, and nothing is sent to a side that
    /// prepares.
    #[test]
    fn every_operation_ends_with_the_new_or_the_old(
        orders in prop::collection::vec((kinds(), 0_usize..4, any::<bool>(), prop::collection::vec(0_u8..3, 0..12)), 1..8),
        bad in 0_usize..4,
    ) {
        let names = ["m0", "m1", "m2", "m3"];
        let mut pool = Pool::serving("m0");
        // The first model has to work for there to be a way back.
        if bad > 0 {
            pool.bad.push(model(names[bad]));
        }
        for (generation, (kind, name, room, steps)) in orders.into_iter().enumerate() {
            let named = matches!(kind, OperationKind::Load | OperationKind::Reload);
            pool.room = room;
            let before = pool.rollout.model().clone();
            let loaded = pool.serves().is_some();
            pool.order(&desired(generation as u64 + 1, kind, named.then_some(names[name])));
            for step in steps {
                match step {
                    0 => _ = pool.act(Side::A),
                    1 => _ = pool.act(Side::B),
                    // The daemon restarts: what is recorded is read again.
                    _ => {
                        let text = serde_json::to_string(&pool.rollout).unwrap();
                        let recorded: Rollout = serde_json::from_str(&text).unwrap();
                        pool.rollout = Rollout::new(model("m0"), true).resumed(Some(recorded));
                    }
                }
                pool.advance();
                let both = pool.engines.iter().filter(|engine| **engine != Engine::Stopped).count() == 2;
                prop_assert!(room || !both || pool.rollout.retiring.is_some(), "two models without room: {:?}", pool.engines);
            }
            pool.settle();
            match (kind, pool.state()) {
                (OperationKind::Drain, _) => prop_assert!(pool.rollout.refuses_work()),
                (OperationKind::Unload, _) => prop_assert!(pool.rollout.is_unloaded()),
                (_, OperationState::Succeeded) => prop_assert_eq!(pool.serves(), Some(names[name])),
                (_, state) => {
                    prop_assert_eq!(state, OperationState::Failed);
                    prop_assert_eq!(pool.serves(), loaded.then(|| before.model_id.as_str()));
                }
            }
        }
    }
}
