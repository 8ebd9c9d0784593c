//! Requests of a few tokens: the cost of everything around the tokens. A task is two exchanges, a queue and a placement;
//! nginx has one exchange to relay.

use std::sync::Arc;

use anyhow::Result;
use test_harness_support::scripted_engine::Script;

use super::{Findings, cpu_us, known_texts};
use crate::load::{Job, one_after_the_other};
use crate::options::Scale;
use crate::relay::{Engine, Ground, Rig, Which};
use crate::report::Figure;
use crate::stats::Samples;

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
    let (mut ours, mut nginx) = (Vec::new(), Vec::new());
    for round in 0..scale.repeats() {
        for which in Which::in_turn(round) {
            let relay = rig.relay(which);
            let work = one_after_the_other(&relay.target, &Arc::clone(&known), CLIENTS as usize, each);
            let ((), cpu_us) = cpu_us(relay, work).await?;
            let cpu_us_per_request = cpu_us / (f64::from(CLIENTS) * each as f64);
            match which {
                Which::Ours => ours.push(cpu_us_per_request),
                Which::Nginx => nginx.push(cpu_us_per_request),
            }
        }
    }
    let title = format!("short, 1–{LONGEST} tokens, {CLIENTS} at once: CPU per request");
    let figure = Figure::ratio(title, "µs", Samples::new(ours), Samples::new(nginx), Some(MOST));
    Ok(Findings { figures: vec![figure], ..Findings::default() })
}
