//! Streams that are opened and stay open while something else is measured.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::target::Target;
use super::together::{Known, share};
use crate::stream::{Stamps, Tokens};

/// Open streams. Dropping them closes their connections.
#[derive(Debug)]
pub(crate) struct HeldStreams {
    running: JoinSet<Result<Infallible>>,
    arrived: watch::Receiver<usize>,
    count: usize,
}

impl HeldStreams {
    /// Opens `count` streams of the same endless job, their starts spread over `spread`. `known` holds the beginning
    /// of the text; a stream has arrived when it has said as much.
    pub(crate) fn open(target: &Target, known: &Arc<Known>, count: usize, spread: Duration) -> Self {
        let (sender, arrived) = watch::channel(0);
        let (sender, begin) = (Arc::new(sender), Instant::now());
        let mut running = JoinSet::new();
        for number in 0..count {
            let (target, known, sender) = (target.clone(), Arc::clone(known), Arc::clone(&sender));
            let start = begin + share(spread, number, count);
            running.spawn(async move {
                sleep_until(start).await;
                hold(&target, &known, &sender)
                    .await
                    .with_context(|| format!("stream {number}"))
            });
        }
        Self {
            running,
            arrived,
            count,
        }
    }

    /// Waits until every stream has arrived.
    ///
    /// # Errors
    /// A stream ends or breaks a rule.
    pub(crate) async fn all_arrived(&mut self) -> Result<()> {
        let count = self.count;
        tokio::select! {
            arrived = self.arrived.wait_for(|arrived| *arrived == count) => arrived.map(drop).context("no stream is left"),
            ended = self.running.join_next() => failure(ended),
        }
    }

    /// Checks that all are still open.
    ///
    /// # Errors
    /// A stream ended or broke a rule.
    pub(crate) fn still_open(&mut self) -> Result<()> {
        match self.running.try_join_next() {
            None => Ok(()),
            ended => failure(ended),
        }
    }
}

fn failure(ended: Option<Result<Result<Infallible>, tokio::task::JoinError>>) -> Result<()> {
    match ended {
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(error).context("a stream's task"),
        None => bail!("there are no streams"),
    }
}

async fn hold(target: &Target, known: &Known, arrived: &watch::Sender<usize>) -> Result<Infallible> {
    let mut connection = target.connect().await?;
    let mut has_arrived = false;
    let seen = |tokens: &Tokens| {
        if !has_arrived && tokens.text().len() >= known.text.len() {
            ensure!(
                tokens.text().starts_with(&known.text),
                "another text than the engine's own: {:?}",
                tokens.text()
            );
            has_arrived = true;
            arrived.send_modify(|count| *count += 1);
        }
        Ok(())
    };
    target
        .watch(&mut connection, &known.job, Stamps::Absent, seen)
        .await?;
    bail!("an endless stream came to its end")
}
