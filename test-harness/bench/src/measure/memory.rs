//! Resident memory: of a relay that has just started, and what each open stream adds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use test_harness_support::scripted_engine::Script;

use super::{Findings, Pair, all_at_once, alternate, within_limit};
use crate::accounting::resident_bytes;
use crate::files;
use crate::load::{HeldStreams, Job, Known};
use crate::options::Scale;
use crate::relay::{Engine, Ground, Which};
use crate::report::Figure;
use crate::stats::Samples;

/// More tokens than any stream is held for, at one a second.
const TOKENS: u32 = 3600;
/// The bytes of a stream's text after which it counts as open: the first token and some more.
const OPEN_AFTER: usize = 48;
/// Target: per open stream, KiB.
const MOST_KIB: f64 = 64.0;

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let repeats = scale.pick(1, 5);
    let mut figures = with_open(ground, 1000, repeats).await?;
    if scale == Scale::Full {
        figures.extend(with_open(ground, 5000, repeats).await?);
        figures.extend(with_open(ground, 10_000, 1).await?);
    }
    Ok(Findings {
        figures,
        ..Findings::default()
    })
}

async fn with_open(ground: &Ground, streams: u32, repeats: usize) -> Result<Vec<Figure>> {
    files::ensure_enough_for(streams)?;
    let engine = Engine::start(ground, streams, Script::default()).await?;
    let known = Arc::new(beginning(&engine).await?);
    engine
        .change_script(&json!({"token_delay_us": 1_000_000}))
        .await?;
    let mut idle = Vec::new();
    let per_stream = alternate(repeats, async |which| {
        let one = sample(ground, &engine, which, &known, streams).await?;
        idle.push((which, one.idle_bytes));
        Ok(one.bytes_per_stream / 1024.0)
    });
    let Pair { ours, nginx } = per_stream
        .await
        .with_context(|| format!("{streams} open streams"))?;
    let idle_of = |wanted| {
        let samples = idle.iter().filter(move |(which, _)| *which == wanted);
        Samples::new(samples.map(|(_, bytes)| *bytes as f64 / 1024.0 / 1024.0))
    };
    let title = format!("memory per open stream, {streams} open");
    Ok(vec![
        Figure::value(
            "memory, idle".to_owned(),
            "MiB",
            idle_of(Which::Ours),
            Some(idle_of(Which::Nginx)),
            None,
        ),
        Figure::value(title, "KiB", ours, Some(nginx), Some(MOST_KIB)),
    ])
}

/// An endless job, and how its text begins.
async fn beginning(engine: &Engine) -> Result<Known> {
    let job = Job::numbered(0, TOKENS);
    let texts = all_at_once(&engine.direct, std::iter::once(job.clone())).await?;
    let text = texts
        .first()
        .and_then(|text| text.get(..OPEN_AFTER))
        .context("the engine says too little")?;
    Ok(Known {
        job,
        text: text.to_owned(),
    })
}

struct Sample {
    idle_bytes: u64,
    bytes_per_stream: f64,
}

/// A fresh relay each time: memory that was used once stays resident.
async fn sample(
    ground: &Ground,
    engine: &Engine,
    which: Which,
    known: &Arc<Known>,
    streams: u32,
) -> Result<Sample> {
    let relay = match which {
        Which::Ours => engine.behind_ours(ground).await?,
        Which::Nginx => engine.behind_nginx(ground).await?,
    };
    let idle_bytes = resident_bytes(relay.pid())?;
    let spread = Duration::from_millis(u64::from(streams));
    let mut held = HeldStreams::open(&relay.target, known, streams as usize, spread);
    within_limit(held.all_arrived()).await?;
    let open_bytes = resident_bytes(relay.pid())?;
    held.still_open()?;
    drop((held, relay));
    engine.is_quiet().await?;
    let added = open_bytes as f64 - idle_bytes as f64;
    Ok(Sample {
        idle_bytes,
        bytes_per_stream: added / f64::from(streams),
    })
}
