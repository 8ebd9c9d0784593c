//! Requests of a few tokens: the cost of everything around the tokens. A task is two exchanges, a queue and a placement;
//! nginx has one exchange to relay.

use anyhow::Result;
use test_harness_support::scripted_engine::Script;

use super::{Findings, alternate, cpu_us, known_texts};
use crate::load::{Job, one_after_the_other};
use crate::options::Scale;
use crate::relay::{Engine, Ground, Rig};
use crate::report::Figure;

/// Requests at a time.
const CLIENTS: u32 = 32;
/// Lengths from 1 token to so many.
const LONGEST: u32 = 16;
/// Target: ours over nginx.
const MOST: f64 = 3.0;

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let rig = Rig::start(ground, Engine::start(ground, CLIENTS, Script::default()).await?).await?;
    let jobs = (1..=LONGEST).map(|tokens| Job::numbered(tokens as usize, tokens));
    let known = known_texts(&rig, jobs.collect()).await?;
    let each = scale.pick(30, 120);
    let cpu = alternate(scale.repeats(), async |which| {
        let relay = rig.relay(which);
        let work = one_after_the_other(&relay.target, &known, CLIENTS, each);
        let ((), cpu_us) = cpu_us(relay, work).await?;
        Ok(cpu_us / f64::from(CLIENTS * each))
    });
    let cpu = cpu.await?;
    let title = format!("short, 1–{LONGEST} tokens, {CLIENTS} at once: CPU per request");
    let figure = Figure::ratio(title, "µs", cpu.ours, cpu.nginx, Some(MOST));
    Ok(Findings {
        figures: vec![figure],
        ..Findings::default()
    })
}
