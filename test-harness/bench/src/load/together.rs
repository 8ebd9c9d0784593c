//! Many streams at the same time, and many requests one after the other on a few connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::job::Job;
use super::target::Target;
use crate::stream::{Heard, Stamps};

/// A job and the text that it must give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) job: Job,
    pub(crate) text: String,
}

impl Known {
    /// Checks a text against the known one.
    ///
    /// # Errors
    /// They differ; tells where.
    pub(crate) fn compare(&self, text: &str) -> Result<()> {
        let same = self
            .text
            .bytes()
            .zip(text.bytes())
            .take_while(|(one, other)| one == other)
            .count();
        ensure!(
            self.text == text,
            "another text than the engine's own for {:?}: {} bytes instead of {}, the first {same} alike",
            self.job.prompt,
            text.len(),
            self.text.len()
        );
        Ok(())
    }
}

/// Runs all jobs at the same time, each on a connection of its own. The starts are spread evenly over `spread`, so
/// that paced tokens do not come in one burst. What was heard is in the order of the jobs.
///
/// # Errors
/// Any stream breaks a rule.
pub(crate) async fn together(
    target: &Target,
    jobs: impl ExactSizeIterator<Item = Job>,
    stamps: Stamps,
    spread: Duration,
) -> Result<Vec<Heard>> {
    let mut running = JoinSet::new();
    let (count, begin) = (jobs.len(), Instant::now());
    for (number, job) in jobs.enumerate() {
        let (target, start) = (target.clone(), begin + share(spread, number, count));
        running.spawn(async move {
            sleep_until(start).await;
            let heard = alone(&target, &job, stamps).await;
            heard
                .map(|heard| (number, heard))
                .with_context(|| format!("stream {number}"))
        });
    }
    let mut heard: Vec<Heard> = std::iter::repeat_with(Heard::default).take(count).collect();
    while let Some(ended) = running.join_next().await {
        let (number, one) = ended.context("a stream's task")??;
        heard[number] = one;
    }
    Ok(heard)
}

async fn alone(target: &Target, job: &Job, stamps: Stamps) -> Result<Heard> {
    let mut connection = target.connect().await?;
    target.run(&mut connection, job, stamps).await
}

/// The start of number `number` of `count`.
pub(super) fn share(spread: Duration, number: usize, count: usize) -> Duration {
    spread.mul_f64(number as f64 / count.max(1) as f64)
}

/// Lets `clients` connections each run `each` of the known jobs, one after the other.
///
/// # Errors
/// Any stream breaks a rule or says something else.
pub(crate) async fn one_after_the_other(
    target: &Target,
    known: &Arc<[Known]>,
    clients: u32,
    each: u32,
) -> Result<()> {
    let mut running = JoinSet::new();
    for client in 0..clients {
        let (target, known) = (target.clone(), Arc::clone(known));
        running.spawn(async move {
            let (first, each) = (client as usize % known.len(), each as usize);
            let jobs = known.iter().cycle().skip(first).take(each);
            let ended = client_runs(&target, jobs).await;
            ended.with_context(|| format!("client {client}"))
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a client's task")??;
    }
    Ok(())
}

async fn client_runs<'a>(target: &Target, jobs: impl Iterator<Item = &'a Known>) -> Result<()> {
    let mut connection = target.connect().await?;
    for known in jobs {
        if !connection.is_reusable() {
            connection = target.connect().await?;
        }
        let heard = target.run(&mut connection, &known.job, Stamps::Absent).await?;
        known.compare(&heard.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_spread_evenly() {
        let period = Duration::from_millis(12);
        let starts: Vec<_> = (0..4)
            .map(|number| share(period, number, 4).as_millis())
            .collect();
        assert_eq!(starts, [0, 3, 6, 9]);
    }

    #[test]
    fn a_difference_is_told_with_its_place() {
        let known = Known {
            job: Job::numbered(1, 2),
            text: "one two".to_owned(),
        };
        known.compare("one two").unwrap();
        let message = known.compare("one twx").unwrap_err().to_string();
        assert!(message.contains("the first 6 alike"), "{message}");
        assert!(known.compare("one").is_err());
    }
}
