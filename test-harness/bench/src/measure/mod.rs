//! The measurements, one module each: start a rig, check that all relays give the engine's own text, then alternate.

mod admission;
mod bulk;
mod decide;
mod honest;
mod memory;
mod paced;
mod quiet;
mod short;
mod silent;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::timeout;

use crate::accounting::CpuTime;
use crate::load::{Job, Known, Target, together};
use crate::options::{Scale, Section};
use crate::relay::{Ground, Relay, Rig, Which};
use crate::report::{Distribution, Figure};
use crate::stats::Samples;
use crate::stream::Stamps;

/// No run takes as long, unless a stream hangs.
const RUN_LIMIT: Duration = Duration::from_secs(90);

/// What a measurement found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) figures: Vec<Figure>,
    pub(crate) distributions: Vec<Distribution>,
    /// What a reader of the figures must know.
    pub(crate) notes: Vec<String>,
}

/// Measures.
///
/// # Errors
/// A program does not run, or a stream is not what it must be: then there is no figure.
pub(crate) async fn measure(section: Section, ground: &Ground, scale: Scale) -> Result<Findings> {
    match section {
        Section::Paced => paced::measure(ground, &paced::sixty_four(scale)).await,
        Section::Crowd => paced::measure(ground, &paced::five_hundred(scale)).await,
        Section::Throng => paced::measure(ground, &paced::two_thousand(scale)).await,
        Section::Bulk => bulk::measure(ground, scale).await,
        Section::Short => short::measure(ground, scale).await,
        Section::Admission => admission::measure(ground, scale).await,
        Section::Silent => silent::measure(ground, scale).await,
        Section::Memory => memory::measure(ground, scale).await,
        Section::Decide => decide::measure(scale),
        Section::Honest => honest::measure(ground, scale).await,
    }
}

/// The texts that the engine itself gives for `jobs`. Both relays must give the same; that also warms them up.
async fn known_texts(rig: &Rig, jobs: Vec<Job>) -> Result<Arc<[Known]>> {
    let heard = all_at_once(&rig.engine.direct, jobs.iter().cloned())
        .await
        .context("the engine alone")?;
    let known: Arc<[Known]> = jobs
        .into_iter()
        .zip(heard)
        .map(|(job, text)| Known { job, text })
        .collect();
    for (name, target) in [
        ("the orchestrator", &rig.ours.target),
        ("nginx", &rig.nginx.target),
    ] {
        let texts = all_at_once(target, known.iter().map(|known| known.job.clone())).await;
        compare(&known, &texts.context(name)?).context(name)?;
    }
    Ok(known)
}

async fn all_at_once(target: &Target, jobs: impl ExactSizeIterator<Item = Job>) -> Result<Vec<String>> {
    let heard = within_limit(together(target, jobs, Stamps::Absent, Duration::ZERO)).await?;
    Ok(heard.into_iter().map(|heard| heard.text).collect())
}

fn compare(known: &[Known], texts: &[String]) -> Result<()> {
    known
        .iter()
        .zip(texts)
        .try_for_each(|(known, text)| known.compare(text))
}

/// Samples of both relays, taken in turn.
#[derive(Debug, PartialEq)]
struct Pair {
    ours: Samples,
    nginx: Samples,
}

/// Takes `rounds` samples of each relay, now the one first, now the other.
async fn alternate(rounds: usize, mut sample: impl AsyncFnMut(Which) -> Result<f64>) -> Result<Pair> {
    let (mut ours, mut nginx) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for which in Which::in_turn(round) {
            let value = sample(which).await?;
            match which {
                Which::Ours => ours.push(value),
                Which::Nginx => nginx.push(value),
            }
        }
    }
    Ok(Pair {
        ours: Samples::new(ours),
        nginx: Samples::new(nginx),
    })
}

/// Runs `work` and tells how much CPU time the relay used meanwhile, µs.
async fn cpu_us<T>(relay: &Relay, work: impl Future<Output = Result<T>>) -> Result<(T, f64)> {
    let before = CpuTime::of(relay.pid())?;
    let done = within_limit(work).await?;
    let used = CpuTime::of(relay.pid())?.since(before);
    Ok((done, used as f64 / 1e3))
}

async fn within_limit<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(RUN_LIMIT, work)
        .await
        .with_context(|| format!("a run hangs for {RUN_LIMIT:?}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn samples_go_to_the_relay_that_they_were_taken_of() {
        let mut order = Vec::new();
        let pair = alternate(2, async |which| {
            order.push(which);
            Ok(order.len() as f64)
        });
        let expected = Pair {
            ours: Samples::new([1.0, 4.0]),
            nginx: Samples::new([2.0, 3.0]),
        };
        assert_eq!(pair.await.unwrap(), expected);
        assert_eq!(order, [Which::Ours, Which::Nginx, Which::Nginx, Which::Ours]);
    }
}
