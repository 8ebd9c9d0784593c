//! What the orchestrator asks a node's pool-managerd.

use std::time::Duration;

use api_types::PoolId;
use api_types::link::{EngineLog, EngineLogQuery, NodeReport};
use http_util::{ByteStream, Request};
use secrecy::SecretString;
use tokio::time::timeout;

use crate::api::Api;
use crate::config::{MAX_SILENCE, Timeouts};
use crate::error::ClientError;
use crate::orchestrator::query_string;

/// Longest `wait_exit_ms` that [`NodeClient::engine_log`] asks for; a longer wish is cut to it. A killed process is
/// gone within milliseconds, and whoever asks has an error to report meanwhile.
pub const MAX_ENGINE_LOG_WAIT: Duration = Duration::from_secs(10);

/// A client of any number of pool-managerds that share one token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeClient {
    client: http_util::Client,
    /// For answers that may be silent for long.
    follower: http_util::Client,
    token: Option<SecretString>,
    request_timeout: Duration,
}

impl NodeClient {
    /// A client with the installation's token. Opens no connection yet.
    ///
    /// # Errors
    /// [`ClientError::Setup`] for a limit that cannot work.
    pub fn new(token: Option<SecretString>, timeouts: Timeouts) -> Result<Self, ClientError> {
        let client =
            http_util::Client::new(timeouts.options(MAX_ENGINE_LOG_WAIT)).map_err(ClientError::Setup)?;
        let patient = Timeouts {
            idle: MAX_SILENCE,
            ..timeouts
        };
        let follower =
            http_util::Client::new(patient.options(timeouts.request)).map_err(ClientError::Setup)?;
        Ok(Self {
            client,
            follower,
            token,
            request_timeout: timeouts.request,
        })
    }

    /// Who answers at `base_url`, and its state: `GET /v1/node` of a pool-managerd. Takes at most the request timeout.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn node(&self, base_url: &str) -> Result<NodeReport, ClientError> {
        let api = Api::new(&self.client, "pool-managerd", base_url, self.token.as_ref())?;
        let limit = self.request_timeout;
        let late = |_elapsed| ClientError::Timeout {
            peer: api.peer().clone(),
            limit,
        };
        timeout(limit, api.get("/v1/node")).await.map_err(late)?
    }

    /// The last lines that an engine wrote: `GET /v1/pools/{id}/logs` of the pool-managerd at `base_url`. Takes at
    /// most the request timeout and the query's `wait_exit_ms` together.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn engine_log(
        &self,
        base_url: &str,
        pool: &PoolId,
        query: &EngineLogQuery,
    ) -> Result<EngineLog, ClientError> {
        let api = Api::new(&self.client, "pool-managerd", base_url, self.token.as_ref())?;
        let wait = query
            .wait_exit_ms
            .map(|ms| Duration::from_millis(ms).min(MAX_ENGINE_LOG_WAIT));
        let limit = self.request_timeout + wait.unwrap_or_default();
        let path = format!("/v1/pools/{pool}/logs{}", log_query(query, wait));
        let late = |_elapsed| ClientError::Timeout {
            peer: api.peer().clone(),
            limit,
        };
        timeout(limit, api.get(&path)).await.map_err(late)?
    }
}

impl NodeClient {
    /// The last lines that an engine wrote and all that follow, as plain text, until its process has ended: `GET
    /// /v1/pools/{id}/logs?follow=true` of the pool-managerd at `base_url`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn follow_engine_log(
        &self,
        base_url: &str,
        pool: &PoolId,
        query: &EngineLogQuery,
    ) -> Result<ByteStream, ClientError> {
        let api = Api::new(&self.follower, "pool-managerd", base_url, self.token.as_ref())?;
        let path = format!("/v1/pools/{pool}/logs{}", log_query(query, None));
        Ok(api.stream(Request::get(path)).await?.body)
    }
}

fn log_query(query: &EngineLogQuery, wait: Option<Duration>) -> String {
    let pairs = [
        ("replica_id", Some(query.replica_id.to_string())),
        (
            "generation",
            query.generation.map(|generation| generation.to_string()),
        ),
        ("tail", query.tail.map(|tail| tail.to_string())),
        ("follow", query.follow.map(|follow| follow.to_string())),
        ("wait_exit_ms", wait.map(|wait| wait.as_millis().to_string())),
    ];
    query_string(pairs)
}
