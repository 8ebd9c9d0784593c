//! Tokens that come many at a time, as fast as they can: what a token costs when nobody waits for it.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, Result};
use test_harness_support::scripted_engine::Script;

use super::{Findings, compare, cpu_us, known_texts};
use crate::load::{Job, Known, Target, together};
use crate::options::Scale;
use crate::relay::{Engine, Ground, Rig, Which};
use crate::report::Figure;
use crate::stats::Samples;
use crate::stream::Stamps;

const STREAMS: u32 = 64;
const TOKENS_PER_WRITE: u32 = 32;
/// Target: ours over nginx.
const MOST: f64 = 6.0;

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let tokens_per_write = NonZeroU32::new(TOKENS_PER_WRITE).context("a write holds a token")?;
    let script = Script { tokens_per_write, ..Script::default() };
    let rig = Rig::start(ground, Engine::start(ground, STREAMS, script).await?).await?;
    let tokens = scale.pick(1600, 6400);
    let jobs = (0..STREAMS as usize).map(|number| Job::numbered(number, tokens));
    let known = known_texts(&rig, jobs.collect()).await?;
    let (mut ours, mut nginx) = (Vec::new(), Vec::new());
    for round in 0..scale.repeats() {
        for which in Which::in_turn(round) {
            let relay = rig.relay(which);
            let ((), cpu_us) = cpu_us(relay, run(&relay.target, &known)).await?;
            let cpu_us_per_token = cpu_us / f64::from(STREAMS * tokens);
            match which {
                Which::Ours => ours.push(cpu_us_per_token),
                Which::Nginx => nginx.push(cpu_us_per_token),
            }
        }
    }
    let title = format!("bulk, {TOKENS_PER_WRITE} tokens per write: CPU per token");
    let figure = Figure::ratio(title, "µs", Samples::new(ours), Samples::new(nginx), Some(MOST));
    Ok(Findings { figures: vec![figure], ..Findings::default() })
}

async fn run(target: &Target, known: &[Known]) -> Result<()> {
    let jobs = known.iter().map(|known| known.job.clone());
    let heard = together(target, jobs, Stamps::Absent, Duration::ZERO).await?;
    let texts: Vec<String> = heard.into_iter().map(|heard| heard.text).collect();
    compare(known, &texts)
}
