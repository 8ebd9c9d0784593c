//! Admissions with the journal on: every receipt is sent after a commit that is synced to the disk.

use anyhow::Result;
use serde_json::json;
use test_harness_support::scripted_engine::Script;

use super::{Findings, within_limit};
use crate::load::admissions;
use crate::options::Scale;
use crate::relay::{Engine, Ground};
use crate::report::Figure;
use crate::stats::{Samples, percentile};

/// Admissions in flight.
const CLIENTS: u32 = 64;
/// Longer than a run: the tasks wait, and only their admission costs anything.
const STANDSTILL_MS: u64 = 600_000;
/// Target: 5000 admissions a second.
const MOST_US: f64 = 200.0;
/// Target: the 99th percentile of the wait for a receipt.
const P99_MOST_MS: f64 = 20.0;

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let engine = Engine::start(ground, 1, Script::default()).await?;
    engine
        .change_script(&json!({"first_token_delay_ms": STANDSTILL_MS}))
        .await?;
    let each = scale.pick(25, 50);
    let (mut per_admission, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..scale.repeats() {
        // A fresh one each time: the tasks of the run before would still wait.
        let ours = engine.behind_ours(ground).await?;
        let admitted = within_limit(admissions(&ours.target, CLIENTS, each)).await?;
        per_admission.push(admitted.wall_ns as f64 / 1e3 / f64::from(CLIENTS * each));
        p99.push(percentile(&admitted.waits_ns, 99.0) as f64 / 1e6);
        drop(ours);
        engine.is_quiet().await?;
    }
    let per_admission = Samples::new(per_admission);
    let rate = 1e6 / per_admission.median();
    let figure = |what: &str, unit, samples, most| {
        let title = format!("admission, {CLIENTS} in flight, journal on: {what}");
        Figure::value(title, unit, samples, None, Some(most))
    };
    Ok(Findings {
        figures: vec![
            figure("wall time per admission", "µs", per_admission, MOST_US),
            figure("p99 until the receipt", "ms", Samples::new(p99), P99_MOST_MS),
        ],
        notes: vec![format!("admission: {rate:.0} a second")],
        ..Findings::default()
    })
}
