//! Whom to ask, and in which dialect. Touches sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use api_types::TaskReceipt;
use serde_json::{Map, Value};

use super::job::Job;
use super::read;
use crate::http::Connection;
use crate::stream::{Check, CompletionCheck, Heard, Stamps, TaskCheck};

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
    /// The stream breaks a rule.
    pub(crate) async fn run(&self, connection: &mut Connection, job: &Job, stamps: Stamps) -> Result<Heard> {
        self.watch(connection, job, stamps, |_| {}).await
    }

    /// Runs `job` to its end; `seen` is told after each read how many tokens there are, with the text so far.
    ///
    /// # Errors
    /// The stream breaks a rule.
    pub(crate) async fn watch(
        &self,
        connection: &mut Connection,
        job: &Job,
        stamps: Stamps,
        seen: impl FnMut(&crate::stream::Tokens) + Send,
    ) -> Result<Heard> {
        match &self.dialect {
            Dialect::Tasks => {
                open_task(connection, job).await?;
                read::to_the_end(connection, TaskCheck::new(job.tokens, stamps), seen).await
            }
            Dialect::Completion(template) => {
                let head = connection.post("/completion", &job.completion(template)).await?;
                expect_stream(connection, head.status).await?;
                read::to_the_end(connection, CompletionCheck::new(job.tokens, stamps), seen).await
            }
        }
    }
}
