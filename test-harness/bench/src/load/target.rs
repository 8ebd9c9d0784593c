//! Whom to ask, and in which dialect. Touches sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use api_types::TaskReceipt;
use serde_json::{Map, Value};

use super::job::Job;
use super::read;
use crate::http::{Connection, Head};
use crate::stream::{CompletionCheck, Heard, Stamps, TaskCheck, Tokens};

/// A server that streams.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) dialect: Dialect,
}

/// How a stream is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Dialect {
    /// The orchestrator: a task, then its stream.
    Tasks,
    /// The engine, or a relay that copies its bytes: one request like this one.
    Completion(Arc<Map<String, Value>>),
}

impl Target {
    /// A connection to it.
    ///
    /// # Errors
    /// It does not accept.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Connection::open(self.address).await
    }

    /// Runs `job` to its end.
    ///
    /// # Errors
    /// It is refused, or the stream breaks a rule.
    pub(crate) async fn run(&self, connection: &mut Connection, job: &Job, stamps: Stamps) -> Result<Heard> {
        self.watch(connection, job, stamps, |_| Ok(())).await
    }

    /// Asks for `job` and reads nothing of its stream.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) async fn open(&self, connection: &mut Connection, job: &Job) -> Result<()> {
        match &self.dialect {
            Dialect::Tasks => open_task(connection, job).await,
            Dialect::Completion(template) => {
                let head = connection.post("/completion", &job.completion(template)).await?;
                expect_stream(connection, &head).await
            }
        }
    }

    /// Runs `job` to its end and shows `seen` the tokens after each read.
    ///
    /// # Errors
    /// It is refused, the stream breaks a rule, or `seen` objects.
    pub(crate) async fn watch(
        &self,
        connection: &mut Connection,
        job: &Job,
        stamps: Stamps,
        seen: impl FnMut(&Tokens) -> Result<()> + Send,
    ) -> Result<Heard> {
        match &self.dialect {
            Dialect::Tasks => {
                self.open(connection, job).await?;
                read::to_the_end(connection, TaskCheck::new(job.tokens, stamps), seen).await
            }
            Dialect::Completion(_) => {
                self.open(connection, job).await?;
                read::to_the_end(connection, CompletionCheck::new(job.tokens, stamps), seen).await
            }
        }
    }
}

async fn open_task(connection: &mut Connection, job: &Job) -> Result<()> {
    let head = connection.post("/v1/tasks", &job.task()).await?;
    let body = connection.whole(&head, 202).await.context("submitting a task")?;
    let receipt: TaskReceipt = serde_json::from_slice(&body).context("a task's receipt")?;
    let head = connection.get(&receipt.stream_url).await?;
    expect_stream(connection, &head)
        .await
        .context("opening a task's stream")
}

/// A refusal is told in the server's words.
async fn expect_stream(connection: &mut Connection, head: &Head) -> Result<()> {
    if head.status != 200 {
        connection.whole(head, 200).await?;
    }
    Ok(())
}
