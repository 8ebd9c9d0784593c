//! Tokens that come many at a time, as fast as they can: what a token costs when nobody waits for it.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, Result};
use test_harness_support::scripted_engine::Script;

use super::{Findings, alternate, compare, cpu_us, known_texts};
use crate::load::{Job, Known, Target, together};
use crate::options::Scale;
use crate::relay::{Engine, Ground, Rig};
use crate::report::Figure;
use crate::stream::Stamps;

const STREAMS: u32 = 64;
const TOKENS_PER_WRITE: u32 = 32;
/// Target: ours over nginx.
const MOST: f64 = 6.0;

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let tokens_per_write = NonZeroU32::new(TOKENS_PER_WRITE).context("a write holds a token")?;
    let script = Script {
        tokens_per_write,
        ..Script::default()
    };
    let rig = Rig::start(ground, Engine::start(ground, STREAMS, script).await?).await?;
    let tokens = scale.pick(1600, 6400);
    let jobs = (0..STREAMS as usize).map(|number| Job::numbered(number, tokens));
    let known = known_texts(&rig, jobs.collect()).await?;
    let cpu = alternate(scale.repeats(), async |which| {
        let relay = rig.relay(which);
        let ((), cpu_us) = cpu_us(relay, run(&relay.target, &known)).await?;
        Ok(cpu_us / f64::from(STREAMS * tokens))
    });
    let cpu = cpu.await?;
    let title = format!("bulk, {TOKENS_PER_WRITE} tokens per write: CPU per token");
    let figure = Figure::ratio(title, "µs", cpu.ours, cpu.nginx, Some(MOST));
    Ok(Findings {
        figures: vec![figure],
        ..Findings::default()
    })
}

async fn run(target: &Target, known: &[Known]) -> Result<()> {
    let jobs = known.iter().map(|known| known.job.clone());
    let heard = together(target, jobs, Stamps::Absent, Duration::ZERO).await?;
    let texts: Vec<String> = heard.into_iter().map(|heard| heard.text).collect();
    compare(known, &texts)
}
