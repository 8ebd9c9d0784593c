//! Tests of the machine: each transition by name, and invariants over random histories.

use proptest::prelude::*;

use super::*;
use crate::facts::FileIdentity;

fn policy() -> LifePolicy {
    LifePolicy {
        load_deadline: Duration::from_secs(100),
        restart: RestartPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(8),
            budget: 3,
            window: Duration::from_secs(600),
        },
    }
}

fn inputs(size: u64) -> Inputs {
    Inputs {
        model: Some(FileIdentity {
            size,
            ..FileIdentity::default()
        }),
        engine: None,
    }
}

fn goal(wish: Wish) -> Event {
    Event::Goal(Goal {
        wish,
        drain: false,
        inputs: inputs(1),
        model: None,
        tries: 0,
    })
}

fn blocked(cause: UnreadyCause) -> Wish {
    Wish::Blocked(Unready::of(cause))
}

fn serving() -> Event {
    Event::Looked(Look::Serving(EngineFacts {
        version: Some("b1".into()),
        slots: 2,
        ctx_per_slot: 512,
    }))
}

fn ended(cause: UnreadyCause) -> Event {
    Event::Ended(Ending {
        cause,
        how: "exit code 1".into(),
        last_error: Some("E srv: no".into()),
    })
}

struct Life {
    machine: Machine,
    now: Instant,
}

impl Life {
    fn new() -> Self {
        Self {
            machine: Machine::new(policy(), 0),
            now: Instant::now(),
        }
    }

    /// A replica that serves.
    fn ready() -> Self {
        let mut life = Self::new();
        assert_eq!(life.on(goal(Wish::Run)), Some(Action::Start(1)));
        assert_eq!(life.on(serving()), None);
        assert_eq!(life.state(), ReplicaState::Ready);
        life
    }

    fn on(&mut self, event: Event) -> Option<Action> {
        let at = Moment {
            now: self.now,
            entropy: 200,
        };
        self.machine.on(at, event)
    }

    fn sleep(&mut self, seconds: u64) -> Option<Action> {
        self.now += Duration::from_secs(seconds);
        self.on(Event::Timer)
    }

    fn status(&mut self) -> Status {
        self.machine.status(self.now)
    }

    fn state(&mut self) -> ReplicaState {
        self.status().state
    }

    fn cause(&mut self) -> Option<UnreadyCause> {
        self.status().unready.map(|why| why.cause)
    }
}

/// ORCH-3421.
#[test]
fn from_blocked_to_ready() {
    let mut life = Life::new();
    assert_eq!(life.on(goal(blocked(UnreadyCause::ModelMissing))), None);
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Preflight, Some(UnreadyCause::ModelMissing))
    );
    assert_eq!(life.on(goal(Wish::Run)), Some(Action::Start(1)));
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Starting, Some(UnreadyCause::Loading))
    );
    assert_eq!(life.on(Event::Looked(Look::Loading)), None);
    assert_eq!(life.state(), ReplicaState::Loading);
    assert_eq!(life.on(serving()), None);
    let status = life.status();
    assert_eq!((status.state, status.unready), (ReplicaState::Ready, None));
    assert_eq!(status.facts.unwrap().slots, 2);
    assert_eq!(status.running_with, Some(inputs(1)));
}

#[test]
fn a_repeated_goal_does_nothing() {
    let mut life = Life::ready();
    for _ in 0..3 {
        assert_eq!(life.on(goal(Wish::Run)), None);
    }
    assert_eq!((life.state(), life.status().generation), (ReplicaState::Ready, 1));
}

#[test]
fn a_crash_is_paused_over_and_started_again() {
    let mut life = Life::ready();
    assert_eq!(life.on(ended(UnreadyCause::VramOom)), None);
    let status = life.status();
    assert_eq!(status.state, ReplicaState::Backoff);
    assert_eq!(status.restarts, 1);
    assert_eq!(status.last_error.as_deref(), Some("E srv: no"));
    assert_eq!((status.facts, status.running_with), (None, None));
    let why = status.unready.unwrap();
    assert_eq!(why.cause, UnreadyCause::VramOom);
    assert!(
        why.hint.contains("exit code 1") && why.hint.contains("smaller model"),
        "{}",
        why.hint
    );
    assert_eq!(life.on(goal(Wish::Run)), None, "the pause is not over");
    assert_eq!(life.sleep(1), Some(Action::Start(2)));
    life.on(serving());
    assert_eq!(life.status().last_error, None);
}

#[test]
fn the_budget_ends_in_failed_with_the_last_lines_until_a_file_changes() {
    let mut life = Life::ready();
    for generation in 2..=4 {
        life.on(ended(UnreadyCause::EngineExited));
        assert_eq!(life.sleep(9), Some(Action::Start(generation)));
    }
    assert_eq!(life.on(ended(UnreadyCause::EngineExited)), None);
    let status = life.status();
    assert_eq!(status.state, ReplicaState::Failed);
    assert_eq!(status.last_error.as_deref(), Some("E srv: no"));
    let why = status.unready.unwrap();
    assert_eq!(why.cause, UnreadyCause::RestartBudgetExhausted);
    assert!(
        why.hint.contains("3 restarts within 600 s") && why.hint.contains("exit code 1"),
        "{}",
        why.hint
    );
    assert_eq!(life.sleep(10_000), None, "only a person or another file helps");
    let replaced = Goal {
        wish: Wish::Run,
        drain: false,
        inputs: inputs(2),
        model: None,
        tries: 0,
    };
    assert_eq!(life.on(Event::Goal(replaced)), Some(Action::Start(5)));
    assert_eq!(life.status().restarts, 0);
}

/// ORCH-3423.
#[test]
fn a_load_that_is_ordered_tries_again_with_a_fresh_budget() {
    let mut life = Life::ready();
    for generation in 2..=4 {
        life.on(ended(UnreadyCause::EngineExited));
        assert_eq!(life.sleep(9), Some(Action::Start(generation)));
    }
    life.on(ended(UnreadyCause::EngineExited));
    assert_eq!(life.state(), ReplicaState::Failed);
    let ordered = || {
        Event::Goal(Goal {
            wish: Wish::Run,
            drain: false,
            inputs: inputs(1),
            model: None,
            tries: 1,
        })
    };
    assert_eq!(life.on(ordered()), Some(Action::Start(5)));
    life.on(ended(UnreadyCause::EngineExited));
    assert_eq!((life.state(), life.status().restarts), (ReplicaState::Backoff, 1));
    // The same order, told again, is none.
    assert_eq!(life.on(ordered()), None);
    assert_eq!(life.status().restarts, 1);
}

#[test]
fn a_refused_model_file_is_not_tried_for_ever() {
    let mut life = Life::new();
    life.on(goal(Wish::Run));
    for generation in 2..=3 {
        life.on(ended(UnreadyCause::BadModel));
        assert_eq!(life.sleep(9), Some(Action::Start(generation)));
    }
    life.on(ended(UnreadyCause::BadModel));
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Failed, Some(UnreadyCause::BadModel))
    );
}

#[test]
fn a_load_that_takes_too_long_is_ended() {
    let mut life = Life::new();
    life.on(goal(Wish::Run));
    assert_eq!(life.sleep(60), None);
    life.on(Event::Looked(Look::Loading));
    assert_eq!(
        life.sleep(40),
        Some(Action::Terminate),
        "loading does not extend the deadline"
    );
    assert_eq!(life.sleep(1), None);
    life.on(ended(UnreadyCause::EngineExited));
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Backoff, Some(UnreadyCause::LoadTimeout))
    );
}

#[test]
fn a_large_model_has_the_time_that_a_slow_disk_needs() {
    let mut life = Life::new();
    life.on(Event::Goal(Goal {
        wish: Wish::Run,
        drain: false,
        inputs: inputs(5_000_000_000),
        model: None,
        tries: 0,
    }));
    assert_eq!(life.sleep(199), None);
    life.on(Event::Progress);
    assert_eq!(life.sleep(199), None);
    assert_eq!(life.sleep(1), Some(Action::Terminate));
}

#[test]
fn an_engine_that_stops_answering_is_ended_and_started_again() {
    let mut life = Life::ready();
    assert_eq!(
        life.on(Event::Unhealthy(Unready::new(
            UnreadyCause::EngineUnhealthy,
            "no response within 2s",
        ))),
        Some(Action::Terminate)
    );
    assert_eq!(life.state(), ReplicaState::Backoff);
    life.on(ended(UnreadyCause::HostOom));
    assert_eq!(
        life.cause(),
        Some(UnreadyCause::EngineUnhealthy),
        "our own kill is not the cause"
    );
    assert_eq!(life.sleep(1), Some(Action::Start(2)));
}

/// ORCH-3421.
#[test]
fn a_stranger_on_the_port_never_makes_a_replica_ready() {
    let mut life = Life::new();
    life.on(goal(Wish::Run));
    assert_eq!(life.on(Event::Looked(Look::Foreign)), Some(Action::Terminate));
    assert_eq!(life.on(serving()), None);
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Backoff, Some(UnreadyCause::PortTaken))
    );
}

#[test]
fn drain_refuses_work_and_keeps_the_engine() {
    let mut life = Life::ready();
    let drain = Goal {
        wish: Wish::Run,
        drain: true,
        inputs: inputs(1),
        model: None,
        tries: 0,
    };
    assert_eq!(life.on(Event::Goal(drain)), None);
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Draining, Some(UnreadyCause::Draining))
    );
    assert_eq!(life.on(goal(Wish::Run)), None);
    assert_eq!(life.state(), ReplicaState::Ready);
}

#[test]
fn stop_ends_the_engine_and_run_starts_it_again() {
    let mut life = Life::ready();
    assert_eq!(life.on(goal(Wish::Stop)), Some(Action::Terminate));
    assert_eq!(life.state(), ReplicaState::Draining);
    assert_eq!(life.on(ended(UnreadyCause::EngineExited)), None);
    assert_eq!((life.state(), life.status().restarts), (ReplicaState::Stopped, 0));
    assert_eq!(life.on(goal(Wish::Run)), Some(Action::Start(2)));
}

/// How an engine ended is told later than that it did: meanwhile it is ready for nothing, and nothing else is its cause.
#[test]
fn an_engine_that_is_gone_waits_for_its_cause() {
    let mut life = Life::ready();
    assert_eq!(life.on(Event::Gone), None);
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Backoff, Some(UnreadyCause::EngineExited))
    );
    let unhealthy = Unready::of(UnreadyCause::EngineUnhealthy);
    assert_eq!(life.on(Event::Unhealthy(unhealthy)), None);
    assert_eq!(life.on(goal(Wish::Stop)), None, "there is nothing to be ended");
    life.on(goal(Wish::Run));
    assert_eq!(life.sleep(60), None);
    life.on(ended(UnreadyCause::HostOom));
    assert_eq!(life.cause(), Some(UnreadyCause::HostOom));
    // A wish to stop that came meanwhile is fulfilled by the end.
    let mut life = Life::ready();
    life.on(Event::Gone);
    life.on(goal(Wish::Stop));
    life.on(ended(UnreadyCause::EngineExited));
    assert_eq!(life.state(), ReplicaState::Stopped);
}

#[test]
fn a_lost_device_takes_readiness_and_a_slow_driver_does_not() {
    let mut life = Life::ready();
    assert_eq!(life.on(goal(blocked(UnreadyCause::DeviceMissing))), None);
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Preflight, Some(UnreadyCause::DeviceMissing))
    );
    for cause in [
        UnreadyCause::DriverUnavailable,
        UnreadyCause::ModelMissing,
        UnreadyCause::EngineMissing,
    ] {
        assert_eq!(life.on(goal(blocked(cause))), None);
        assert_eq!(life.state(), ReplicaState::Ready, "{cause:?}");
    }
}

#[test]
fn nothing_is_started_without_its_devices_after_a_pause() {
    let mut life = Life::ready();
    life.on(ended(UnreadyCause::GpuError));
    life.on(goal(blocked(UnreadyCause::DeviceMissing)));
    assert_eq!(life.sleep(60), None);
    assert_eq!(
        (life.state(), life.cause()),
        (ReplicaState::Preflight, Some(UnreadyCause::DeviceMissing))
    );
    assert_eq!(life.on(goal(Wish::Run)), Some(Action::Start(2)));
}

#[derive(Debug, Clone)]
enum Step {
    Run,
    Block,
    Stop,
    Drain,
    Loading,
    Serving,
    Foreign,
    Unhealthy,
    End(UnreadyCause),
    Sleep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cause = prop_oneof![
        Just(UnreadyCause::EngineExited),
        Just(UnreadyCause::BadModel),
        Just(UnreadyCause::VramOom)
    ];
    let step = prop_oneof![
        3 => Just(Step::Run),
        1 => Just(Step::Block),
        1 => Just(Step::Stop),
        1 => Just(Step::Drain),
        1 => Just(Step::Loading),
        3 => Just(Step::Serving),
        1 => Just(Step::Foreign),
        1 => Just(Step::Unhealthy),
        3 => cause.prop_map(Step::End),
        3 => (0_u64..120).prop_map(Step::Sleep),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens in whatever order: one process at a time, generations count starts, nothing is
    /// started while blocked or stopped, readiness only after health, and no window holds more restarts than
    /// the budget.
    #[test]
    fn histories_keep_the_invariants(steps in steps()) {
        let mut life = Life::new();
        let (mut alive, mut told, mut served, mut starts) = (false, false, false, 0_u64);
        let mut wish = blocked(UnreadyCause::DriverUnavailable);
        for step in steps {
            let action = match step {
                Step::Run | Step::Drain => {
                    wish = Wish::Run;
                    let drain = matches!(step, Step::Drain);
                    life.on(Event::Goal(Goal { wish: Wish::Run, drain, inputs: inputs(1), model: None, tries: 0 }))
                }
                Step::Block => { wish = blocked(UnreadyCause::DeviceMissing); life.on(goal(wish.clone())) }
                Step::Stop => { wish = Wish::Stop; life.on(goal(Wish::Stop)) }
                Step::Loading if alive => life.on(Event::Looked(Look::Loading)),
                Step::Serving if alive => { served = true; life.on(serving()) }
                Step::Foreign if alive && !served => life.on(Event::Looked(Look::Foreign)),
                Step::Unhealthy if alive && served => life.on(Event::Unhealthy(Unready::of(UnreadyCause::EngineUnhealthy))),
                Step::End(cause) if alive => { (alive, told, served) = (false, false, false); life.on(ended(cause)) }
                Step::Sleep(seconds) => life.sleep(seconds),
                _ => None,
            };
            match action {
                Some(Action::Start(generation)) => {
                    prop_assert!(!alive, "two processes at once");
                    prop_assert_eq!(&wish, &Wish::Run);
                    starts += 1;
                    prop_assert_eq!(generation, starts);
                    alive = true;
                }
                Some(Action::Terminate) => {
                    prop_assert!(alive && !told, "ended nothing, or twice");
                    told = true;
                }
                None => {}
            }
            let status = life.status();
            prop_assert!(status.restarts <= 3);
            prop_assert_eq!(status.running_with.is_some(), alive);
            if status.state == ReplicaState::Ready {
                prop_assert!(alive && served && !told);
                prop_assert_eq!(status.unready, None);
            } else {
                prop_assert!(status.unready.is_some() || wish == Wish::Run, "not ready and nobody knows why");
            }
        }
    }
}
