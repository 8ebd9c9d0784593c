//! A task that the scenario is about, as a client knows it.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use test_harness_support::http1::Call;
use test_harness_support::stream_check::Summary;
use test_harness_support::system::System;
use test_harness_support::wait::{Look, wait_for};

use super::{PATIENCE, Viewer};

/// A submitted task.
#[derive(Debug)]
pub(crate) struct Task {
    /// Its id.
    pub(crate) id: String,
    /// Its class.
    pub(crate) priority: String,
    /// What the client was told at once (202).
    pub(crate) receipt: Value,
    /// Events that had arrived when the cancel was acknowledged.
    pub(crate) seen_at_acknowledgement: Option<usize>,
    /// Who watches its stream.
    pub(crate) viewer: Option<Viewer>,
}

impl Task {
    /// The task that was admitted with this receipt.
    pub(crate) fn new(request: &Value, receipt: Value) -> anyhow::Result<Self> {
        let id = receipt["task_id"].as_str().context("the receipt names no task")?;
        let priority = request["priority"].as_str().unwrap_or("interactive");
        Ok(Self {
            id: id.to_owned(),
            priority: priority.to_owned(),
            receipt,
            seen_at_acknowledgement: None,
            viewer: None,
        })
    }

    /// Who watches its stream; comes now if nobody does yet.
    pub(crate) async fn viewer(&mut self, system: &System) -> anyhow::Result<&mut Viewer> {
        let viewer = match self.viewer.take() {
            Some(viewer) => viewer,
            None => Viewer::open(system, &self.id).await?,
        };
        Ok(self.viewer.insert(viewer))
    }

    /// Watches its stream to the end; tells what it said, if it kept the grammar.
    pub(crate) async fn watch_to_end(&mut self, system: &System) -> anyhow::Result<Summary> {
        let viewer = self.viewer(system).await?;
        viewer.read_to_end().await?;
        viewer.summary()
    }

    /// What `GET /v1/tasks/{id}` shows.
    pub(crate) async fn status(&self, system: &System) -> anyhow::Result<Value> {
        status(system, &self.id).await
    }

    /// Waits until the task's status satisfies a condition; tells it.
    pub(crate) async fn wait_status(
        &self,
        system: &System,
        what: &str,
        condition: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        wait_status(system, &self.id, what, condition).await
    }
}

/// Waits until a task's status satisfies a condition; tells it.
pub(crate) async fn wait_status(
    system: &System,
    task: &str,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let look = || async {
        match status(system, task).await {
            Ok(status) if condition(&status) => Look::Ready(status),
            Ok(status) => Look::NotYet(status),
            Err(error) => Look::NotYet(Value::String(format!("{error:#}"))),
        }
    };
    Ok(wait_for(what, PATIENCE, look).await?)
}

async fn status(system: &System, task: &str) -> anyhow::Result<Value> {
    let answer = system.call(Call::get(&format!("/v1/tasks/{task}"))).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    Ok(answer.json()?)
}
