//! Estimates: what was measured, what follows from it, and what stays unknown.

use orchestrator_core::eta::{
    Demand, Estimate, Ewma, Expected, Observation, Running, ServiceStats, ServiceTimes, Slot, predict,
    retry_after_ms,
};
use proptest::prelude::*;

use super::fixtures::pool_id;

fn expected(mean_ms: u64) -> Option<Expected> {
    Some(Expected {
        mean_ms,
        spread_ms: 0,
    })
}

const fn leased(elapsed_ms: u64, expected: Option<Expected>) -> Slot {
    Slot::Leased(Running { elapsed_ms, expected })
}

/// 100 prompt tokens in 200 ms; 51 tokens, i.e. 50 steps, in 1 000 ms.
const RUN: Observation = Observation {
    tokens_in: 100,
    tokens_out: 51,
    first_token_ms: 200,
    decode_ms: 1000,
};

fn learned(runs: &[Observation]) -> ServiceStats {
    let mut stats = ServiceStats::default();
    runs.iter().for_each(|run| stats.observe(run));
    stats
}

#[test]
fn nothing_is_known_before_the_first_run() {
    let stats = ServiceStats::default();
    assert_eq!(
        stats.expected(&Demand {
            tokens_in: 10,
            expected_out: Some(5),
            max_out: None
        }),
        None
    );
    assert_eq!(stats.decode_mtps(), None);
    assert_eq!(stats.perf_hints().prefill_tps, None);
    let (pool, model) = (pool_id("gpu0"), "tiny".parse().unwrap());
    let mut times = ServiceTimes::default();
    assert!(times.stats(&pool, &model).is_none());
    times.observe(&pool, &model, &RUN);
    assert_eq!(times.stats(&pool, &model), Some(&learned(&[RUN])));
    assert!(times.stats(&pool, &"other".parse().unwrap()).is_none());
    times.retain(|_| false);
    assert!(times.stats(&pool, &model).is_none());
}

#[test]
fn speeds_give_the_duration_of_a_task_of_another_size() {
    let stats = learned(&[RUN, RUN]);
    assert_eq!(stats.decode_mtps(), Some(50_000));
    assert_eq!(stats.perf_hints().prefill_tps, Some(500.0));
    let demand = |tokens_in, expected_out, max_out| Demand {
        tokens_in,
        expected_out,
        max_out,
    };
    assert_eq!(stats.expected(&demand(50, Some(11), None)), expected(100 + 200));
    assert_eq!(stats.expected(&demand(50, None, None)), expected(100 + 1000));
    assert_eq!(stats.expected(&demand(50, None, Some(11))), expected(100 + 200));
    assert_eq!(
        stats.expected(&demand(50, Some(100), Some(11))),
        expected(100 + 200)
    );
    assert_eq!(stats.expected(&demand(0, Some(1), None)), expected(0));
}

#[test]
fn a_speed_that_was_never_seen_leaves_the_mean_duration() {
    let embedding = Observation {
        tokens_in: 64,
        tokens_out: 0,
        first_token_ms: 32,
        decode_ms: 0,
    };
    let stats = learned(&[embedding]);
    let demand = |expected_out| Demand {
        tokens_in: 128,
        expected_out,
        max_out: None,
    };
    assert_eq!(stats.expected(&demand(None)), expected(64));
    assert_eq!(stats.expected(&demand(Some(10))), expected(32));
}

#[test]
fn runs_that_differ_have_a_spread() {
    let slower = Observation {
        decode_ms: 3000,
        ..RUN
    };
    let spread = learned(&[RUN, slower])
        .expected(&Demand {
            tokens_in: 100,
            expected_out: Some(51),
            max_out: None,
        })
        .map(|expected| expected.spread_ms);
    // Steps per ms 1/20 and 1/60: mean 1/30, deviation 1/60, so half of 1 500 ms.
    assert_eq!(spread, Some(750));
}

#[test]
fn the_mean_follows_a_change() {
    let mut ewma = Ewma::default();
    (0..100).for_each(|_| ewma.add(10.0));
    assert_eq!(
        (ewma.mean(), ewma.spread(), ewma.samples()),
        (Some(10.0), Some(0.0), 100)
    );
    (0..40).for_each(|_| ewma.add(50.0));
    assert!(ewma.mean().is_some_and(|mean| mean > 49.0));
}

#[test]
fn a_free_slot_means_now_even_when_nothing_was_measured() {
    let now = Estimate {
        start_ms: 0,
        end_ms: None,
    };
    assert_eq!(predict([Slot::Free], [], None), Some(now));
    assert_eq!(predict([Slot::Free, Slot::Free], [None], None), Some(now));
    assert_eq!(predict([Slot::Free], [None], expected(10)), None);
    assert_eq!(predict([leased(5, None)], [], expected(10)), None);
    assert_eq!(predict([], [], expected(10)), None);
}

#[test]
fn tasks_ahead_take_the_slot_that_frees_first() {
    let slots = [leased(100, expected(400)), leased(0, expected(1000))];
    // 300 and 1 000 free; ahead: 300→500, 500→700; own 700→750.
    let estimate = predict(slots, [expected(200), expected(200)], expected(50));
    assert_eq!(
        estimate,
        Some(Estimate {
            start_ms: 700,
            end_ms: Some(750)
        })
    );
    // A slot that frees at an unknown time is not counted on.
    let estimate = predict([leased(0, None), leased(0, expected(90))], [expected(10)], None);
    assert_eq!(
        estimate,
        Some(Estimate {
            start_ms: 100,
            end_ms: None
        })
    );
}

#[test]
fn an_overdue_task_is_not_expected_to_end_this_instant() {
    let late = Running {
        elapsed_ms: 900,
        expected: Some(Expected {
            mean_ms: 800,
            spread_ms: 150,
        }),
    };
    assert_eq!(late.remaining_ms(), Some(150));
}

#[test]
fn retry_after_is_when_the_first_slot_frees_spread_by_jitter() {
    let running = [
        Running {
            elapsed_ms: 100,
            expected: expected(900),
        },
        Running {
            elapsed_ms: 100,
            expected: expected(500),
        },
        Running {
            elapsed_ms: 7000,
            expected: None,
        },
    ];
    assert_eq!(retry_after_ms(running, 0.0), Some(400));
    assert_eq!(retry_after_ms(running, 0.5), Some(600));
    assert_eq!(retry_after_ms(running, f64::NAN), Some(400));
    assert_eq!(retry_after_ms(running, -1.0), Some(400));
    assert_eq!(retry_after_ms(running, 9.0), Some(800));
}

#[test]
fn retry_after_before_any_measurement_is_the_longest_elapsed_time_or_nothing() {
    let running = |elapsed_ms| Running {
        elapsed_ms,
        expected: None,
    };
    assert_eq!(retry_after_ms([running(300), running(800)], 0.25), Some(1000));
    assert_eq!(retry_after_ms([running(0)], 0.9), Some(1));
    assert_eq!(retry_after_ms([], 0.5), None);
}

/// Serves `ahead` one after the other, each on the slot that frees first, by looking at all.
fn naive_start(mut free_in: Vec<u64>, ahead: &[u64]) -> Option<u64> {
    for lasts in ahead {
        let first = (0..free_in.len()).min_by_key(|i| free_in[*i])?;
        free_in[first] += lasts;
    }
    free_in.into_iter().min()
}

proptest! {
    #[test]
    fn prediction_agrees_with_the_plain_schedule(slots in prop::collection::vec(0u64..1000, 0..6), ahead in prop::collection::vec(0u64..1000, 0..30)) {
        let leases = slots.iter().map(|ms| leased(0, expected(*ms)));
        let start = predict(leases, ahead.iter().map(|ms| expected(*ms)), None).map(|estimate| estimate.start_ms);
        prop_assert_eq!(start, naive_start(slots, &ahead));
    }

    #[test]
    fn extreme_values_saturate(runs in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()), 1..30), tokens_in: u32, out: Option<u32>, jitter: f64) {
        let mut stats = ServiceStats::default();
        for (tokens_in, tokens_out, first_token_ms, decode_ms) in runs {
            stats.observe(&Observation { tokens_in, tokens_out, first_token_ms, decode_ms });
            let mean = stats.service_ms().mean();
            prop_assert!(mean.is_some_and(|mean| mean.is_finite() && mean >= 0.0));
        }
        let own = stats.expected(&Demand { tokens_in, expected_out: out, max_out: None });
        prop_assert!(own.is_some());
        let running = Running { elapsed_ms: u64::MAX, expected: own };
        prop_assert!(retry_after_ms([running], jitter).is_some_and(|ms| ms > 0));
        if let Some(estimate) = predict([Slot::Leased(running)], [own, own], own) {
            prop_assert!(estimate.end_ms >= Some(estimate.start_ms));
        }
    }

    #[test]
    fn jitter_spreads_over_at_most_as_long_again(remaining in 1u64..1_000_000, jitter in 0.0f64..1.0) {
        let running = Running { elapsed_ms: 0, expected: expected(remaining) };
        let wait = retry_after_ms([running], jitter);
        prop_assert!(wait.is_some_and(|ms| (remaining..2 * remaining).contains(&ms)));
    }
}
