//! The placement decision, in this process: the pure function that every admission calls.

use std::hint::black_box;

use anyhow::{Result, ensure};
use api_types::{Determinism, EngineKind, PlacementOverrides, Workload};
use orchestrator_core::policy::{
    DecisionCache, JobSpec, PlacementInput, PoolView, Readiness, Requirements, Snapshot, decide,
};

use super::Findings;
use crate::clock::now_ns;
use crate::options::Scale;
use crate::report::Figure;
use crate::stats::Samples;

/// Decisions between two looks at the clock, which costs as much as a small one.
const BATCH: u32 = 20;
/// Batches of a sample.
const BATCHES: usize = 500;
/// Entries live as long as the orchestrator's, ms; here nothing gets old.
const CACHED_MS: u64 = 1000;
/// Target for 64 pools, µs.
const MOST_US: f64 = 20.0;

/// Measures.
pub(super) fn measure(scale: Scale) -> Result<Findings> {
    let figure = |pools, most| {
        let snapshot = snapshot(pools)?;
        let job = job()?;
        let input = PlacementInput::new(&job, &snapshot);
        let mut ask = || drop(black_box(decide(black_box(&input))));
        let samples = Samples::new((0..scale.repeats()).map(|_| median_us(&mut ask)));
        Ok::<_, anyhow::Error>(Figure::value(
            format!("decide over {pools} pools"),
            "µs",
            samples,
            None,
            most,
        ))
    };
    Ok(Findings {
        figures: vec![
            figure(64, Some(MOST_US))?,
            remembered(64, scale)?,
            figure(1000, None)?,
            remembered(1000, scale)?,
        ],
        ..Findings::default()
    })
}

/// The same question again, as when equal tasks come one after the other between two reports: the cache answers.
fn remembered(pools: u32, scale: Scale) -> Result<Figure> {
    let (snapshot, job) = (snapshot(pools)?, job()?);
    let mut cache = DecisionCache::new(CACHED_MS);
    let mut ask = || drop(black_box(cache.decide(black_box(&job), black_box(&snapshot), 0)));
    let samples = Samples::new((0..scale.repeats()).map(|_| median_us(&mut ask)));
    ensure!(cache.hits_and_misses().1 == 1, "the cache does not remember");
    let name = format!("decide over {pools} pools, remembered");
    Ok(Figure::value(name, "µs", samples, None, None))
}

fn median_us(ask: &mut impl FnMut()) -> f64 {
    let batch = || {
        let started = now_ns();
        for _ in 0..BATCH {
            ask();
        }
        (now_ns() - started) as f64 / f64::from(BATCH) / 1e3
    };
    Samples::new(std::iter::repeat_with(batch).take(BATCHES)).median()
}

/// The dearest case: every pool serves the model, so all are scored, and all but a few are busy.
fn snapshot(pools: u32) -> Result<Snapshot> {
    let pools = (0..pools).map(pool).collect::<Result<_>>()?;
    Ok(Snapshot { version: 1, pools })
}

fn pool(number: u32) -> Result<PoolView> {
    Ok(PoolView {
        pool_id: format!("node{}-gpu{}", number / 8, number % 8).parse()?,
        readiness: Readiness::Ready,
        engine: EngineKind::Llamacpp,
        model_id: "bench-model".parse()?,
        model_ref: "hf:bench/model/file.gguf".parse()?,
        ctx_max: 8192,
        workloads: vec![Workload::Completion, Workload::Chat],
        deterministic: false,
        device_mask: vec![format!("GPU-{number:08}")],
        slots_total: 4,
        slots_free: u32::from(number.is_multiple_of(16)),
        predicted_free_ms: Some(100 + u64::from(number)),
        decode_mtps: Some(40_000),
        vram_free_bytes: Some(u64::from(number) << 28),
        loadable: Vec::new(),
    })
}

fn job() -> Result<JobSpec> {
    let needs = Requirements {
        model_ref: "bench-model".parse()?,
        engine: None,
        workload: Workload::Chat,
        determinism: Determinism::BestEffort,
        placement: PlacementOverrides::default(),
    };
    Ok(JobSpec {
        needs,
        ctx_tokens: 2048,
        last_pool: None,
    })
}

#[cfg(test)]
mod tests {
    use orchestrator_core::policy::Outcome;

    use super::*;

    #[test]
    fn every_pool_is_a_candidate_and_one_is_chosen() {
        let (snapshot, job) = (snapshot(64).unwrap(), job().unwrap());
        let decision = decide(&PlacementInput::new(&job, &snapshot));
        assert_eq!(decision.log.candidates_considered, 64);
        assert!(
            matches!(decision.outcome, Outcome::Placed { .. }),
            "{:?}",
            decision.outcome
        );
    }
}
