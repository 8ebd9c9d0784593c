//! The circuit breaker on a paused clock, step by step and by property.

use proptest::prelude::*;

use super::*;

const OPTIONS: BreakerOptions = BreakerOptions {
    faults_to_open: 3,
    cooldown: Duration::from_secs(1),
    cooldown_max: Duration::from_secs(8),
};

fn fail(breaker: &Arc<Breaker>) -> Change {
    breaker.admit().unwrap().settle(Verdict::Fault)
}

fn opened(breaker: &Arc<Breaker>) -> Duration {
    for _ in 1..OPTIONS.faults_to_open {
        assert_eq!(fail(breaker), Change::None);
    }
    rest(fail(breaker))
}

fn rest(change: Change) -> Duration {
    match change {
        Change::Opened(rest) => rest,
        other => panic!("did not open: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn opens_after_faults_in_a_row_and_refuses_until_the_rest_is_over() {
    let breaker = Breaker::new(OPTIONS);
    let rest = opened(&breaker);
    assert!(
        (OPTIONS.cooldown..=2 * OPTIONS.cooldown).contains(&rest),
        "{rest:?}"
    );
    assert_eq!(breaker.admit().unwrap_err().retry_after, rest);
    tokio::time::advance(rest - Duration::from_millis(1)).await;
    assert_eq!(breaker.admit().unwrap_err().retry_after, Duration::from_millis(1));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(breaker.admit().unwrap().is_probe());
}

#[tokio::test(start_paused = true)]
async fn a_good_end_forgives_the_faults_before_it() {
    let breaker = Breaker::new(OPTIONS);
    for _ in 0..10 {
        assert_eq!(fail(&breaker), Change::None);
        assert_eq!(fail(&breaker), Change::None);
        assert_eq!(breaker.admit().unwrap().settle(Verdict::Well), Change::None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_tells_nothing_counts_for_nothing() {
    let breaker = Breaker::new(OPTIONS);
    fail(&breaker);
    fail(&breaker);
    assert_eq!(breaker.admit().unwrap().settle(Verdict::Unclear), Change::None);
    assert!(matches!(fail(&breaker), Change::Opened(_)));
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time() {
    let breaker = Breaker::new(OPTIONS);
    tokio::time::advance(opened(&breaker)).await;
    let probe = breaker.admit().unwrap();
    assert!(probe.is_probe());
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.admit().is_err());
    drop(probe);
    assert!(
        breaker.admit().unwrap().is_probe(),
        "an abandoned probe makes room at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_lengthens_the_rest() {
    let breaker = Breaker::new(OPTIONS);
    let mut now = opened(&breaker);
    for expected in [2, 4, 8, 8, 8] {
        tokio::time::advance(now).await;
        now = rest(fail(&breaker));
        let expected = Duration::from_secs(expected);
        assert!(
            (expected..=2 * expected).contains(&now),
            "{now:?} for {expected:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_serves_closes_on_trial() {
    let breaker = Breaker::new(OPTIONS);
    tokio::time::advance(opened(&breaker)).await;
    let mut probe = breaker.admit().unwrap();
    assert_eq!(probe.progress(), Change::Closed);
    assert_eq!(probe.progress(), Change::None);
    let second = breaker.admit().unwrap();
    assert!(!second.is_probe());
    // It broke off in its stream: no grace, and a longer rest.
    let rest = rest(probe.settle(Verdict::Fault));
    assert!(rest >= 2 * OPTIONS.cooldown, "{rest:?}");
    assert_eq!(second.settle(Verdict::Well), Change::None);
    assert_eq!(
        breaker.state(),
        BreakerState::Open,
        "a call from before does not close it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_good_end_after_the_trial_is_a_new_start() {
    let breaker = Breaker::new(OPTIONS);
    tokio::time::advance(opened(&breaker)).await;
    assert_eq!(breaker.admit().unwrap().settle(Verdict::Well), Change::Closed);
    let rest = opened(&breaker);
    assert!(rest <= 2 * OPTIONS.cooldown, "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn stragglers_change_nothing() {
    let breaker = Breaker::new(OPTIONS);
    let stragglers: Vec<_> = (0..3).map(|_| breaker.admit().unwrap()).collect();
    let rest = opened(&breaker);
    let mut stragglers = stragglers.into_iter();
    assert_eq!(stragglers.next().unwrap().settle(Verdict::Fault), Change::None);
    tokio::time::advance(rest).await;
    let probe = breaker.admit().unwrap();
    assert_eq!(stragglers.next().unwrap().settle(Verdict::Fault), Change::None);
    assert_eq!(stragglers.next().unwrap().settle(Verdict::Well), Change::None);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(probe.settle(Verdict::Well), Change::Closed);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Call,
    Progress(usize),
    Settle(usize, Verdict),
    Drop(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop::sample::select(vec![
        Verdict::Well,
        Verdict::Fault,
        Verdict::Fault,
        Verdict::Unclear,
    ]);
    let step = prop_oneof![
        4 => Just(Step::Call),
        1 => any::<usize>().prop_map(Step::Progress),
        3 => (any::<usize>(), verdict).prop_map(|(n, v)| Step::Settle(n, v)),
        1 => any::<usize>().prop_map(Step::Drop),
        2 => (0..3_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever calls do: at most one probe, no call while resting, opening only by a fault, and never stuck: once nobody calls and the longest rest is over, a call is let through.
    #[test]
    fn the_breaker_keeps_its_promises(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let breaker = Breaker::new(OPTIONS);
            let mut calls: Vec<Pass> = Vec::new();
            let mut rests_until = Instant::now();
            for step in steps {
                let pick = |n: usize, calls: &[Pass]| (!calls.is_empty()).then(|| n % calls.len());
                match step {
                    Step::Call => match breaker.admit() {
                        Ok(pass) => {
                            assert!(Instant::now() >= rests_until, "a call while resting");
                            calls.push(pass);
                        }
                        Err(resting) => assert!(resting.retry_after > Duration::ZERO),
                    },
                    Step::Progress(n) => if let Some(at) = pick(n, &calls) {
                        calls[at].progress();
                    },
                    Step::Settle(n, verdict) => if let Some(at) = pick(n, &calls) {
                        let change = calls.swap_remove(at).settle(verdict);
                        if let Change::Opened(rest) = change {
                            assert_eq!(verdict, Verdict::Fault);
                            assert!(rest <= 2 * OPTIONS.cooldown_max);
                            rests_until = Instant::now() + rest;
                        }
                    },
                    Step::Drop(n) => if let Some(at) = pick(n, &calls) {
                        drop(calls.swap_remove(at));
                    },
                    Step::Wait(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
                }
                let probes = calls.iter().filter(|call| call.is_probe()).count();
                assert_eq!(probes, usize::from(breaker.state() == BreakerState::HalfOpen));
            }
            drop(calls);
            tokio::time::advance(2 * OPTIONS.cooldown_max).await;
            assert!(breaker.admit().is_ok());
        });
    }

    #[test]
    fn fewer_faults_in_a_row_than_the_limit_never_open(
        verdicts in proptest::collection::vec(prop::sample::select(vec![Verdict::Well, Verdict::Fault]), 0..100),
    ) {
        let breaker = Breaker::new(OPTIONS);
        let mut faults = 0;
        for verdict in verdicts {
            let verdict = if faults + 1 == OPTIONS.faults_to_open { Verdict::Well } else { verdict };
            faults = if verdict == Verdict::Fault { faults + 1 } else { 0 };
            prop_assert_eq!(breaker.admit().unwrap().settle(verdict), Change::None);
        }
    }
}
