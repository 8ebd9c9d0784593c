//! Streams at a reader's pace: CPU time per token, and how much later a token comes than straight from the engine.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use test_harness_support::scripted_engine::Script;

use super::quiet::{Quiet, Watch};
use super::{Findings, cpu_us, known_texts, within_limit};
use crate::load::{Job, Known, Target, together};
use crate::options::Scale;
use crate::relay::{Engine, Ground, Rig, Which};
use crate::report::{Distribution, Figure};
use crate::stats::{Samples, percentile};
use crate::stream::{Heard, Stamps};

/// Until the first token: every client has its stream open by then, so that only relaying is measured.
const LEAD_MS: u64 = 100;
/// One way to pace streams.
#[derive(Debug)]
pub(super) struct Pacing {
    streams: u32,
    tokens: u32,
    /// From token to token of one stream.
    period: Duration,
    repeats: usize,
    /// Target: CPU per token, ours over nginx.
    cpu_most: Option<f64>,
    /// Target: added latency of ours, 99th percentile, µs.
    p99_most_us: Option<f64>,
}

/// The figures that the CPU target is about: 6400 tokens/s.
pub(super) fn sixty_four(scale: Scale) -> Pacing {
    Pacing {
        streams: 64,
        tokens: scale.pick(200, 500),
        period: Duration::from_millis(10),
        repeats: scale.repeats(),
        cpu_most: Some(1.5),
        p99_most_us: None,
    }
}

/// The figures that the latency target is about: 25 000 tokens/s.
pub(super) fn five_hundred(scale: Scale) -> Pacing {
    Pacing {
        streams: 500,
        tokens: scale.pick(50, 100),
        period: Duration::from_millis(20),
        repeats: scale.repeats(),
        cpu_most: None,
        p99_most_us: Some(1000.0),
    }
}

/// As many as a large installation has: 100 000 tokens/s.
pub(super) fn two_thousand(scale: Scale) -> Pacing {
    Pacing {
        streams: 2000,
        tokens: 50,
        period: Duration::from_millis(20),
        repeats: scale.pick(1, 3),
        cpu_most: None,
        p99_most_us: None,
    }
}

/// What one round of a relay showed.
#[derive(Debug)]
struct Round {
    cpu_us_per_token: f64,
    ages: Ages,
}

/// Ages of all tokens of a run, ns, sorted.
#[derive(Debug, Default)]
struct Ages(Vec<u64>);

#[derive(Debug, Default)]
struct Rounds {
    direct: Vec<Ages>,
    ours: Vec<Round>,
    nginx: Vec<Round>,
    quiet: Quiet,
}

/// Measures.
pub(super) async fn measure(ground: &Ground, pacing: &Pacing) -> Result<Findings> {
    let engine = Engine::start(ground, pacing.streams, Script::default()).await?;
    let rig = Rig::start(ground, engine).await?;
    let jobs = (0..pacing.streams as usize).map(|number| Job::numbered(number, pacing.tokens));
    let known = known_texts(&rig, jobs.collect()).await?;
    rig.engine
        .change_script(&json!({
            "first_token_delay_ms": LEAD_MS,
            "token_delay_us": pacing.period.as_micros(),
            "stamp_tokens": true,
        }))
        .await?;
    let mut rounds = Rounds::default();
    for number in 0..pacing.repeats {
        pacing.round(&rig, &known, number, &mut rounds).await?;
    }
    Ok(pacing.findings(&rounds))
}

impl Pacing {
    async fn round(&self, rig: &Rig, known: &[Known], number: usize, rounds: &mut Rounds) -> Result<()> {
        rounds
            .direct
            .push(within_limit(self.run(&rig.engine.direct, known)).await?);
        for which in Which::in_turn(number) {
            let relay = rig.relay(which);
            let watch = Watch::start(rig, which)?;
            let (ages, cpu_us) = cpu_us(relay, self.run(&relay.target, known)).await?;
            rounds.quiet.look(&watch)?;
            let cpu_us_per_token = cpu_us / f64::from(self.streams * self.tokens);
            let round = Round {
                cpu_us_per_token,
                ages,
            };
            match which {
                Which::Ours => rounds.ours.push(round),
                Which::Nginx => rounds.nginx.push(round),
            }
        }
        Ok(())
    }

    async fn run(&self, target: &Target, known: &[Known]) -> Result<Ages> {
        let jobs = known.iter().map(|known| known.job.clone());
        let heard = together(target, jobs, Stamps::Present, self.period).await?;
        known
            .iter()
            .zip(&heard)
            .try_for_each(|(known, heard)| known.compare(&heard.text))?;
        Ok(Ages::of(&heard))
    }

    fn findings(&self, rounds: &Rounds) -> Findings {
        let streams = self.streams;
        let cpu = |rounds: &[Round]| Samples::new(rounds.iter().map(|round| round.cpu_us_per_token));
        let title = format!("paced, {streams} streams: CPU per token");
        let mut figures = vec![Figure::ratio(
            title,
            "µs",
            cpu(&rounds.ours),
            cpu(&rounds.nginx),
            self.cpu_most,
        )];
        for (percent, most) in [(50.0, None), (99.0, self.p99_most_us)] {
            let title = format!("paced, {streams} streams: added latency p{percent}");
            let added = |relay: &[Round]| added_us(relay, &rounds.direct, percent);
            figures.push(Figure::value(
                title,
                "µs",
                added(&rounds.ours),
                Some(added(&rounds.nginx)),
                most,
            ));
        }
        Findings {
            figures,
            distributions: self.distributions(rounds),
            notes: vec![rounds.quiet.note(&format!("{streams} streams"))],
        }
    }

    fn distributions(&self, rounds: &Rounds) -> Vec<Distribution> {
        let named = |name: &str, ages: Vec<&Ages>| {
            let all = Ages::together(ages);
            Distribution::new(format!("{} streams", self.streams), name, |percent| {
                all.percentile_us(percent)
            })
        };
        vec![
            named("direct", rounds.direct.iter().collect()),
            named("nginx", rounds.nginx.iter().map(|round| &round.ages).collect()),
            named(
                "orchestratord",
                rounds.ours.iter().map(|round| &round.ages).collect(),
            ),
        ]
    }
}

/// Percentile of the ages through a relay minus that of the ages straight from the engine, round by round, µs.
fn added_us(relay: &[Round], direct: &[Ages], percent: f64) -> Samples {
    let pairs = relay.iter().zip(direct);
    Samples::new(
        pairs.map(|(round, direct)| round.ages.percentile_us(percent) - direct.percentile_us(percent)),
    )
}

impl Ages {
    fn of(heard: &[Heard]) -> Self {
        Self::sorted(heard.iter().flat_map(|heard| &heard.ages_ns).copied().collect())
    }

    fn together(runs: Vec<&Self>) -> Self {
        Self::sorted(runs.into_iter().flat_map(|run| &run.0).copied().collect())
    }

    fn sorted(mut ages: Vec<u64>) -> Self {
        ages.sort_unstable();
        Self(ages)
    }

    fn percentile_us(&self, percent: f64) -> f64 {
        percentile(&self.0, percent) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(ages_us: &[u64]) -> Ages {
        Ages::sorted(ages_us.iter().map(|us| us * 1000).collect())
    }

    #[test]
    fn added_latency_is_the_difference_of_percentiles_of_the_same_round() {
        let round = |us: &[u64]| Round {
            cpu_us_per_token: 1.0,
            ages: ages(us),
        };
        let (relay, direct) = (
            [round(&[30, 10, 20]), round(&[40, 40, 40])],
            [ages(&[1, 2, 3]), ages(&[10, 10, 10])],
        );
        assert_eq!(added_us(&relay, &direct, 50.0), Samples::new([18.0, 30.0]));
        assert_eq!(added_us(&relay, &direct, 99.0), Samples::new([27.0, 30.0]));
    }
}
