//! Estimates: what was measured, what follows from it, and what stays unknown (REQ-ETA-MEASURED,
//! REQ-ETA-PROGRESS, REQ-ETA-ON-TIME).
#![expect(clippy::unwrap_used, reason = "tests")]

use api_types::{ModelId, PoolId, Priority};
use orchestrator_core::eta::{
    Asked, Demand, Ewma, Forecast, Measured, Observation, Outlook, PoolSlots, Running, ServiceStats,
    first_end_ms, outlook_of_running, retry_after_ms,
};
use proptest::prelude::*;

use super::fixtures::pool_id;

/// 100 prompt tokens in 200 ms; 51 tokens, i.e. 50 steps, in 1 000 ms.
const RUN: Observation = Observation {
    tokens_in: 100,
    tokens_out: 51,
    first_token_ms: 200,
    decode_ms: 1000,
};

/// One ms per prompt token and per step.
const EVEN: Observation = Observation {
    tokens_in: 100,
    tokens_out: 101,
    first_token_ms: 100,
    decode_ms: 100,
};

fn tiny() -> (PoolId, ModelId) {
    (pool_id("gpu0"), "tiny".parse().unwrap())
}

fn learned(runs: &[Observation]) -> Measured {
    let (pool, model) = tiny();
    let mut measured = Measured::default();
    for run in runs {
        measured.observe(&pool, &model, &Demand::default(), run);
    }
    measured
}

const fn told(tokens_in: u32, tokens_out: u32) -> Demand {
    Demand {
        class: Priority::Interactive,
        tokens_in,
        expected_out: Some(tokens_out),
        max_out: None,
    }
}

/// A task that has just got its slot.
const fn fresh(demand: Demand) -> Running {
    Running {
        demand,
        elapsed_ms: 0,
        generated: 0,
        decode_ms: 0,
        idle_ms: 0,
    }
}

fn remaining(measured: &Measured, running: &Running) -> Option<u64> {
    let (pool, model) = tiny();
    measured.remaining_ms(&pool, &model, running)
}

/// A forecast over one pool.
fn forecast(measured: &Measured, free: u32, running: Vec<Running>, coming: Vec<Option<u64>>) -> Forecast {
    let (pool, model) = tiny();
    let slots = PoolSlots {
        pool_id: &pool,
        model_id: &model,
        free,
        running,
        coming,
    };
    Forecast::new(measured, 1000, [slots], 1)
}

fn place(forecast: &mut Forecast, measured: &Measured, demand: Demand, deadline: Option<u64>) -> Outlook {
    let asked = Asked {
        demand: &demand,
        deadline_at_ms: deadline,
        aged_at_ms: u64::MAX,
        pools: &[0],
    };
    forecast.place(measured, &asked)
}

#[test]
fn nothing_is_known_before_the_first_run() {
    let (pool, model) = tiny();
    let mut measured = Measured::default();
    assert!(measured.stats(&pool, &model).is_none());
    assert_eq!(remaining(&measured, &fresh(told(10, 5))), None);
    assert_eq!(measured.ready_in_ms(&pool, &model, 0), None);
    let stats = ServiceStats::default();
    assert_eq!(
        (stats.decode_mtps(), stats.perf_hints().prefill_tps),
        (None, None)
    );
    measured.observe(&pool, &model, &Demand::default(), &RUN);
    assert!(measured.stats(&pool, &model).is_some());
    assert!(measured.stats(&pool, &"other".parse().unwrap()).is_none());
    measured.retain(|_| false, |_| false);
    assert_eq!(measured, Measured::default());
}

#[test]
fn speeds_give_the_duration_of_a_task_of_another_size() {
    let measured = learned(&[RUN, RUN]);
    let (pool, model) = tiny();
    let stats = measured.stats(&pool, &model).unwrap();
    assert_eq!(stats.decode_mtps(), Some(50_000));
    assert_eq!(stats.perf_hints().prefill_tps, Some(500.0));
    let lasts = |demand| remaining(&measured, &fresh(demand));
    assert_eq!(lasts(told(50, 11)), Some(100 + 200));
    let unknown_length = Demand {
        expected_out: None,
        ..told(50, 0)
    };
    assert_eq!(lasts(unknown_length), Some(100 + 1000), "as long as those before");
    let limited = |demand| Demand {
        max_out: Some(11),
        ..demand
    };
    assert_eq!(lasts(limited(unknown_length)), Some(100 + 200));
    assert_eq!(lasts(limited(told(50, 100))), Some(100 + 200));
    assert_eq!(lasts(told(0, 1)), Some(0));
}

#[test]
fn prompts_of_different_lengths_tell_the_fixed_cost_from_the_cost_per_token() {
    let run = |tokens_in: u32| Observation {
        tokens_in,
        first_token_ms: 40 + u64::from(tokens_in) / 2,
        ..RUN
    };
    let runs: Vec<Observation> = (1..20).map(|n| run(n * 100)).collect();
    let measured = learned(&runs);
    assert_eq!(remaining(&measured, &fresh(told(4000, 1))), Some(2040));
    assert_eq!(remaining(&measured, &fresh(told(0, 1))), Some(40));
}

#[test]
fn a_speed_that_was_never_seen_leaves_the_mean_duration() {
    let embedding = Observation {
        tokens_in: 64,
        tokens_out: 0,
        first_token_ms: 32,
        decode_ms: 0,
    };
    let measured = learned(&[embedding]);
    let unknown_length = Demand {
        expected_out: None,
        ..told(128, 0)
    };
    assert_eq!(remaining(&measured, &fresh(unknown_length)), Some(64));
    assert_eq!(remaining(&measured, &fresh(told(128, 10))), Some(64 + 32));
}

#[test]
fn a_running_task_is_judged_by_its_progress_at_its_own_pace() {
    let measured = learned(&[EVEN, EVEN]);
    let task = |generated, decode_ms, idle_ms| Running {
        demand: told(100, 101),
        elapsed_ms: 100 + decode_ms + idle_ms,
        generated,
        decode_ms,
        idle_ms,
    };
    assert_eq!(remaining(&measured, &fresh(told(100, 101))), Some(200));
    assert_eq!(
        remaining(&measured, &task(5, 4, 0)),
        Some(96),
        "too early for its own pace"
    );
    assert_eq!(remaining(&measured, &task(51, 50, 0)), Some(50));
    assert_eq!(remaining(&measured, &task(51, 100, 0)), Some(100), "half as fast");
    assert_eq!(
        remaining(&measured, &task(51, 100, 30)),
        Some(70),
        "the next token is on its way"
    );
    assert_eq!(
        remaining(&measured, &task(101, 100, 0)),
        Some(51),
        "it has outrun what was told"
    );
}

#[test]
fn a_prompt_that_takes_too_long_is_not_expected_to_end_this_instant() {
    let measured = learned(&[EVEN, EVEN]);
    let late = Running {
        elapsed_ms: 900,
        ..fresh(told(100, 1))
    };
    assert_eq!(remaining(&measured, &late), Some(90));
}

#[test]
fn an_output_longer_than_most_is_judged_by_those_that_were_as_long() {
    let run = |tokens_out| Observation {
        tokens_out,
        decode_ms: u64::from(tokens_out - 1),
        ..EVEN
    };
    let runs: Vec<Observation> = [10, 10, 10, 10, 10, 10, 10, 500].map(run).into();
    let measured = learned(&runs);
    let unknown_length = Demand {
        expected_out: None,
        ..told(100, 0)
    };
    let at = |generated| Running {
        elapsed_ms: 100,
        generated,
        ..fresh(unknown_length)
    };
    assert_eq!(remaining(&measured, &at(2)), Some(8));
    assert_eq!(remaining(&measured, &at(11)), Some(489));
}

#[test]
fn tasks_of_a_kind_are_judged_by_their_kind() {
    let (pool, model) = tiny();
    let mut measured = Measured::default();
    let batch = Demand {
        class: Priority::Batch,
        expected_out: None,
        ..told(100, 0)
    };
    let chat = Demand {
        class: Priority::Interactive,
        ..batch
    };
    for _ in 0..10 {
        measured.observe(
            &pool,
            &model,
            &chat,
            &Observation {
                tokens_out: 11,
                decode_ms: 10,
                ..EVEN
            },
        );
        measured.observe(
            &pool,
            &model,
            &batch,
            &Observation {
                tokens_out: 1001,
                decode_ms: 1000,
                ..EVEN
            },
        );
    }
    assert_eq!(remaining(&measured, &fresh(chat)), Some(110));
    assert_eq!(remaining(&measured, &fresh(batch)), Some(1100));
}

#[test]
fn loads_are_learned_per_pool_and_model() {
    let (pool, model) = tiny();
    let mut measured = Measured::default();
    measured.loaded(&pool, &model, 8000);
    assert_eq!(measured.ready_in_ms(&pool, &model, 3000), Some(5000));
    measured.loaded(&pool, &model, 12_000);
    assert_eq!(measured.ready_in_ms(&pool, &model, 3000), Some(7000));
    assert_eq!(
        measured.ready_in_ms(&pool, &model, 30_000),
        Some(2000),
        "late by as much as loads differ"
    );
    assert_eq!(measured.ready_in_ms(&pool, &"other".parse().unwrap(), 0), None);
    let measured = Measured::default();
    let mut slots = forecast(&measured, 0, Vec::new(), vec![Some(700)]);
    assert_eq!(
        place(&mut slots, &measured, told(1, 1), None).start_ms(1000),
        Some(700)
    );
    let mut slots = forecast(&measured, 0, Vec::new(), vec![None]);
    assert_eq!(
        place(&mut slots, &measured, told(1, 1), None).start_ms(1000),
        None
    );
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
    let measured = Measured::default();
    let mut slots = forecast(&measured, 2, Vec::new(), Vec::new());
    for _ in 0..2 {
        let outlook = place(&mut slots, &measured, told(1, 1), Some(5000));
        let told = (
            outlook.start_ms(1000),
            outlook.end_ms(1000),
            outlook.on_time_probability(),
        );
        assert_eq!(told, (Some(0), None, None));
    }
    let outlook = place(&mut slots, &measured, told(1, 1), None);
    assert_eq!((outlook.start_ms(1000), outlook.end_ms(1000)), (None, None));
    let mut nowhere = forecast(&measured, 0, Vec::new(), Vec::new());
    assert_eq!(
        place(&mut nowhere, &measured, told(1, 1), None).start_ms(1000),
        None
    );
}

#[test]
fn the_chance_to_be_on_time_comes_from_the_spread() {
    let run = |tokens_out: u32| Observation {
        tokens_out,
        decode_ms: u64::from(tokens_out - 1),
        ..EVEN
    };
    let runs: Vec<Observation> = (1..=60).map(|n| run(n * 10 + 1)).collect();
    let measured = learned(&runs);
    let unknown_length = Demand {
        expected_out: None,
        ..told(0, 0)
    };
    let chance = |deadline: u64| {
        let mut slots = forecast(&measured, 1, Vec::new(), Vec::new());
        place(&mut slots, &measured, unknown_length, Some(1000 + deadline))
            .on_time_probability()
            .unwrap()
    };
    assert!(chance(5) < 0.05 && chance(700) > 0.95);
    assert!((chance(300) - 0.5).abs() < 0.1, "{}", chance(300));
    let (pool, model) = tiny();
    let task = fresh(unknown_length);
    let running = outlook_of_running(&measured, (&pool, &model), &task, 1000, Some(1300)).unwrap();
    assert!(
        running
            .on_time_probability()
            .is_some_and(|chance| (chance - 0.5).abs() < 0.1)
    );
    let timeless = outlook_of_running(&measured, (&pool, &model), &task, 1000, None).unwrap();
    assert_eq!(timeless.on_time_probability(), None);
}

/// Interactive tasks that keep coming go before a batch task, until it is aged.
#[test]
fn a_batch_task_is_told_of_the_interactive_ones_that_will_come() {
    let (pool, model) = tiny();
    let mut measured = learned(&[EVEN; 6]);
    let busy = || vec![fresh(told(100, 901))];
    let batch = Demand {
        class: Priority::Batch,
        ..told(100, 101)
    };
    let start = |measured: &Measured, aged_at_ms| {
        let slots = PoolSlots {
            pool_id: &pool,
            model_id: &model,
            free: 0,
            running: busy(),
            coming: Vec::new(),
        };
        let mut forecast = Forecast::new(measured, 1000, [slots], 1);
        let asked = Asked {
            demand: &batch,
            deadline_at_ms: None,
            aged_at_ms,
            pools: &[0],
        };
        forecast.place(measured, &asked).start_ms(1000)
    };
    assert_eq!(start(&measured, u64::MAX), Some(1000));
    // One of 200 ms every 250 ms, so four fifths of the slot are theirs.
    (0..5).for_each(|n| measured.arrived(&model, n * 250, 100));
    let quiet = start(&measured, u64::MAX).unwrap();
    assert!(quiet > 1500, "{quiet}");
    let aged = start(&measured, 0).unwrap();
    assert!(
        (1000..=1200).contains(&aged),
        "one goes before it at most: {aged}"
    );
}

#[test]
fn a_place_frees_when_the_first_running_task_ends() {
    let running = [(Some(800), 100), (Some(400), 100), (None, 7000)];
    assert_eq!(first_end_ms(running), Some(400));
}

#[test]
fn before_any_measurement_it_is_the_longest_elapsed_time_or_nothing() {
    assert_eq!(first_end_ms([(None, 300), (None, 800)]), Some(800));
    assert_eq!(first_end_ms([(None, 0)]), Some(0));
    assert_eq!(first_end_ms([]), None);
}

#[test]
fn retry_after_is_the_wait_spread_by_jitter_and_never_at_once() {
    let spread = |jitter| retry_after_ms(400, jitter);
    assert_eq!(
        [0.0, 0.5, f64::NAN, -1.0, 9.0].map(spread),
        [400, 600, 400, 400, 800]
    );
    assert_eq!(retry_after_ms(0, 0.9), 1);
}

/// Serves `ahead` one after the other, each on the slot that frees first, by looking at all.
fn naive_start(mut free_in: Vec<u64>, ahead: &[u64]) -> Option<u64> {
    for lasts in ahead {
        let first = (0..free_in.len()).min_by_key(|i| free_in[*i])?;
        free_in[first] += lasts;
    }
    free_in.into_iter().min()
}

/// A step of a random life of the model: runs, loads and arrivals, in any order.
#[derive(Debug, Clone)]
enum Step {
    Run(u8, Demand, Observation),
    Load(u8, u64),
    Arrival(u64, u32),
    Forget(u8),
}

fn any_demand() -> impl Strategy<Value = Demand> {
    let class = prop::sample::select(Priority::ALL);
    (class, any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(
        |(class, tokens_in, expected_out, max_out)| Demand {
            class,
            tokens_in,
            expected_out,
            max_out,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let run = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(
        |(tokens_in, tokens_out, first_token_ms, decode_ms)| Observation {
            tokens_in,
            tokens_out,
            first_token_ms,
            decode_ms,
        },
    );
    prop_oneof![
        6 => (0u8..3, any_demand(), run).prop_map(|(pool, demand, run)| Step::Run(pool, demand, run)),
        2 => (0u8..3, any::<u64>()).prop_map(|(pool, ms)| Step::Load(pool, ms)),
        2 => (any::<u64>(), any::<u32>()).prop_map(|(at, tokens)| Step::Arrival(at, tokens)),
        1 => (0u8..3).prop_map(Step::Forget),
    ]
}

/// What was ever measured of a pool, written down without thought.
#[derive(Default, Clone, Copy)]
struct Known {
    runs: usize,
    loads: usize,
}

proptest! {
    /// With told lengths and even speeds every play is the same, and is the plain schedule.
    #[test]
    fn prediction_agrees_with_the_plain_schedule(slots in prop::collection::vec(1u32..1000, 0..6), ahead in prop::collection::vec(1u32..1000, 0..30)) {
        let measured = learned(&[EVEN, EVEN]);
        let running = slots.iter().map(|ms| fresh(told(0, ms + 1))).collect();
        let mut forecast = forecast(&measured, 0, running, Vec::new());
        for ms in &ahead {
            place(&mut forecast, &measured, told(0, ms + 1), None);
        }
        let own = place(&mut forecast, &measured, told(0, 8), None);
        let ms = |numbers: &[u32]| numbers.iter().map(|n| u64::from(*n)).collect::<Vec<_>>();
        let start = naive_start(ms(&slots), &ms(&ahead));
        prop_assert_eq!(own.start_ms(1000), start);
        prop_assert_eq!(own.end_ms(1000), start.map(|start| start + 7));
    }

    #[test]
    fn a_later_deadline_is_no_less_likely_to_be_met(outs in prop::collection::vec(1u32..500, 1..40), deadlines in prop::collection::vec(0u64..3000, 2..8)) {
        let runs: Vec<Observation> = outs.iter().map(|n| Observation { tokens_out: *n, decode_ms: u64::from(n - 1) * 2, ..EVEN }).collect();
        let measured = learned(&runs);
        let mut deadlines = deadlines;
        deadlines.sort_unstable();
        let demand = Demand { expected_out: None, ..told(50, 0) };
        let chances: Vec<f64> = deadlines.iter().map(|deadline| {
            let mut forecast = forecast(&measured, 0, vec![fresh(demand)], Vec::new());
            place(&mut forecast, &measured, demand, Some(1000 + deadline)).on_time_probability().unwrap()
        }).collect();
        prop_assert!(chances.is_sorted(), "{:?}", chances);
        prop_assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)));
    }

    /// However wild the measurements: what was never measured is absent, what was measured is there,
    /// times are ordered, and nothing overflows. 200 lives of up to 100 steps.
    #[test]
    fn unknown_stays_absent_until_measured(steps in prop::collection::vec(any_step(), 0..100), task in any_demand(), elapsed_ms: u64, generated: u32, decode_ms: u64, jitter: f64) {
        let pools = ["p0", "p1", "p2"].map(pool_id);
        let model: ModelId = "tiny".parse().unwrap();
        let mut measured = Measured::default();
        let mut known = [Known::default(); 3];
        for step in steps {
            match step {
                Step::Run(pool, demand, run) => {
                    measured.observe(&pools[usize::from(pool)], &model, &demand, &run);
                    known[usize::from(pool)].runs += 1;
                }
                Step::Load(pool, ms) => {
                    measured.loaded(&pools[usize::from(pool)], &model, ms);
                    known[usize::from(pool)].loads += 1;
                }
                Step::Arrival(at, tokens) => measured.arrived(&model, at, tokens),
                Step::Forget(pool) => {
                    measured.retain(|id| id != &pools[usize::from(pool)], |_| true);
                    known[usize::from(pool)] = Known::default();
                }
            }
            let running = Running { demand: task, elapsed_ms, generated, decode_ms, idle_ms: 0 };
            for (pool, known) in pools.iter().zip(known) {
                prop_assert_eq!(measured.stats(pool, &model).is_some(), known.runs > 0);
                prop_assert_eq!(measured.ready_in_ms(pool, &model, elapsed_ms).is_some(), known.loads > 0);
                let left = measured.remaining_ms(pool, &model, &running);
                prop_assert_eq!(left.is_some(), known.runs > 0);
                let wait = first_end_ms([(left, elapsed_ms)]);
                prop_assert!(wait.is_some_and(|wait| retry_after_ms(wait, jitter) > 0));
            }
        }
        let running = Running { demand: task, elapsed_ms, generated, decode_ms, idle_ms: 0 };
        let slots = pools.iter().map(|pool_id| PoolSlots { pool_id, model_id: &model, free: 0, running: vec![running], coming: Vec::new() });
        let mut forecast = Forecast::new(&measured, elapsed_ms, slots, 3);
        let asked = Asked { demand: &task, deadline_at_ms: Some(u64::MAX - 1), aged_at_ms: elapsed_ms, pools: &[0, 1, 2] };
        for _ in 0..3 {
            let outlook = forecast.place(&measured, &asked);
            if let (Some(start), Some(end)) = (outlook.start_ms(elapsed_ms), outlook.end_ms(elapsed_ms)) {
                prop_assert!(start <= end);
            }
            prop_assert!(outlook.on_time_probability().is_none_or(|chance| (0.0..=1.0).contains(&chance)));
        }
    }

    #[test]
    fn jitter_spreads_over_at_most_as_long_again(remaining in 1u64..1_000_000, jitter in 0.0f64..1.0) {
        prop_assert!((remaining..2 * remaining).contains(&retry_after_ms(remaining, jitter)));
    }
}
