//! Admissions alone: tasks are posted and their receipts read, nothing is streamed. Touches sockets.

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::job::Job;
use super::target::Target;
use crate::clock::now_ns;

/// What the clients saw.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// From the first request to the last receipt, ns.
    pub(crate) wall_ns: u64,
    /// From each request to its receipt, ns, sorted.
    pub(crate) waits_ns: Vec<u64>,
}

/// Lets `clients` connections each submit `each` tasks, one after the other: so many admissions are in flight.
///
/// # Errors
/// A task is not admitted.
pub(crate) async fn admissions(target: &Target, clients: u32, each: u32) -> Result<Admitted> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(target.connect().await?);
    }
    let mut running = JoinSet::new();
    let begun = now_ns();
    for (client, mut connection) in connections.into_iter().enumerate() {
        running.spawn(async move {
            let mut waits = Vec::with_capacity(each as usize);
            for number in 0..each as usize {
                let job = Job::numbered(client * each as usize + number, 16);
                waits.push(submit(&mut connection, &job).await?);
            }
            anyhow::Ok(waits)
        });
    }
    let mut waits_ns = Vec::new();
    while let Some(ended) = running.join_next().await {
        waits_ns.extend(ended.context("a client's task")??);
    }
    let wall_ns = now_ns() - begun;
    waits_ns.sort_unstable();
    Ok(Admitted { wall_ns, waits_ns })
}

/// How long the receipt took, ns.
async fn submit(connection: &mut crate::http::Connection, job: &Job) -> Result<u64> {
    let body = job.task();
    let begun = now_ns();
    let head = connection.post("/v1/tasks", &body).await?;
    connection.whole(&head, 202).await.context("submitting a task")?;
    Ok(now_ns() - begun)
}
