//! Clients that submit and stream without pause, and what they were told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use test_harness_support::http1::{Call, call};
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::StreamCheck;
use test_harness_support::system::MODEL;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than any of it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Running clients.
pub(crate) struct Load {
    clients: JoinSet<Result<Told>>,
    stop: CancellationToken,
}

/// How many tasks ended how.
pub(crate) type Told = BTreeMap<String, usize>;

impl Load {
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        for _ in 0..clients {
            running.spawn(client(address, stop.clone()));
        }
        Self {
            clients: running,
            stop,
        }
    }

    /// Lets every client finish its task, and adds up.
    pub(crate) async fn end(mut self) -> Result<Told> {
        self.stop.cancel();
        let mut sum = Told::new();
        while let Some(told) = self.clients.join_next().await {
            for (outcome, count) in told?? {
                *sum.entry(outcome).or_default() += count;
            }
        }
        Ok(sum)
    }
}

async fn client(address: SocketAddr, stop: CancellationToken) -> Result<Told> {
    let mut told = Told::new();
    while !stop.is_cancelled() {
        *told.entry(one(address).await?).or_default() += 1;
    }
    Ok(told)
}

/// One task from its admission to its end: `finish_reason`, or the code of its error.
async fn one(address: SocketAddr) -> Result<String> {
    let task = json!({"model_ref": MODEL, "prompt": "under fire", "max_tokens": 25});
    let admitted = call(address, &Call::post_json("/v1/tasks", &task)).await?;
    anyhow::ensure!(admitted.status == 202, "{}: {}", admitted.status, admitted.text());
    let receipt: Value = admitted.json()?;
    let stream = Call::get(receipt["stream_url"].as_str().context("no stream_url")?);
    let events = SseReader::open(address, &stream).await?.all_events(LIMIT).await?;
    let summary = StreamCheck::whole(&events)?;
    Ok(summary.outcome().context("no outcome")?.to_owned())
}
