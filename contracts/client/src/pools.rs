//! The routes that change a pool, and its engines' output.

use std::time::Duration;

use api_types::PoolId;
use api_types::link::{EngineLog, PoolLogQuery};
use api_types::operation::{LoadRequest, OperationAccepted, ReloadRequest, StopRequest};
use http_util::{ByteStream, Request};
use serde::Serialize;

use crate::config::MAX_SILENCE;
use crate::error::ClientError;
use crate::orchestrator::{OrchestratorClient, query_string};

/// How much longer than another call an operation may take: until the pool's node has recorded it.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);

impl OrchestratorClient {
    /// Takes no new work, lets running tasks finish, stops the engines: `POST /v1/pools/{id}/drain`. Answered once the
    /// node has recorded it; [`OrchestratorClient::pool_health`] tells how it gets on.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn drain(
        &self,
        pool: &PoolId,
        request: &StopRequest,
    ) -> Result<OperationAccepted, ClientError> {
        self.operate(pool, "drain", request).await
    }

    /// Stops the engines until a task asks for the pool: `POST /v1/pools/{id}/unload`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn unload(
        &self,
        pool: &PoolId,
        request: &StopRequest,
    ) -> Result<OperationAccepted, ClientError> {
        self.operate(pool, "unload", request).await
    }

    /// Serves one of the pool's models: `POST /v1/pools/{id}/load`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn load(&self, pool: &PoolId, request: &LoadRequest) -> Result<OperationAccepted, ClientError> {
        self.operate(pool, "load", request).await
    }

    /// Serves another model, or goes on with the present one where that fails: `POST /v1/pools/{id}/reload`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn reload(
        &self,
        pool: &PoolId,
        request: &ReloadRequest,
    ) -> Result<OperationAccepted, ClientError> {
        self.operate(pool, "reload", request).await
    }

    /// The last lines that an engine of the pool wrote: `GET /v1/pools/{id}/logs`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pool_log(&self, pool: &PoolId, query: &PoolLogQuery) -> Result<EngineLog, ClientError> {
        self.api.get(&log_path(pool, query)).await
    }

    /// Those and every line that follows, as plain text, until the engine's process has ended:
    /// `GET /v1/pools/{id}/logs?follow=true`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn follow_pool_log(
        &self,
        pool: &PoolId,
        query: &PoolLogQuery,
    ) -> Result<ByteStream, ClientError> {
        let query = PoolLogQuery {
            follow: Some(true),
            ..query.clone()
        };
        let patient = self.with_patience(MAX_SILENCE, Duration::ZERO)?;
        let answer = patient.stream(Request::get(log_path(pool, &query))).await?;
        Ok(answer.body)
    }

    async fn operate<B: Serialize + Sync>(
        &self,
        pool: &PoolId,
        operation: &str,
        request: &B,
    ) -> Result<OperationAccepted, ClientError> {
        let patient = self.with_patience(self.config.timeouts.idle, RECORDED_WITHIN)?;
        patient
            .post(&format!("/v1/pools/{pool}/{operation}"), request)
            .await
    }
}

fn log_path(pool: &PoolId, query: &PoolLogQuery) -> String {
    let query = query_string([
        ("replica_id", query.replica_id.as_ref().map(ToString::to_string)),
        (
            "generation",
            query.generation.map(|generation| generation.to_string()),
        ),
        ("tail", query.tail.map(|tail| tail.to_string())),
        ("follow", query.follow.map(|follow| follow.to_string())),
    ]);
    format!("/v1/pools/{pool}/logs{query}")
}
