//! The routes of orchestratord: the data plane, the control plane, and the link that a node keeps to it.

use api_types::capabilities::Capabilities;
use api_types::link::{DesiredState, NodeReport};
use api_types::pool::{PoolHealth, PoolStatus};
use api_types::{
    CorrelationId, NodeId, NodeList, PoolId, PoolList, SessionId, SessionStatus, TaskId, TaskList, TaskQuery,
    TaskReceipt, TaskRequest, TaskStatus,
};
use futures_util::{Stream, stream};
use http::Method;
use http_util::Request;
use orchestrator_core::policy::DecisionRecord;
use std::time::Duration;
use url::form_urlencoded;

use crate::api::Api;
use crate::config::{ClientConfig, Timeouts};
use crate::error::ClientError;
use crate::headers::{self, Budgets};
use crate::stream::{StreamItem, TaskStream};

/// An admitted task: the receipt, and what came with it in headers.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The receipt.
    pub receipt: TaskReceipt,
    /// What is left of the session's budgets.
    pub budgets: Budgets,
    /// Ties the daemon's log lines to this task.
    pub correlation_id: Option<CorrelationId>,
}

/// A client of one orchestratord. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct OrchestratorClient {
    pub(crate) api: Api,
    pub(crate) config: ClientConfig,
}

impl OrchestratorClient {
    /// A client for an address. Opens no connection yet.
    ///
    /// # Errors
    /// [`ClientError::Address`] or [`ClientError::Setup`] for an address, a token or a limit that cannot work.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let api = api(&config, config.timeouts, Duration::ZERO)?;
        Ok(Self { api, config })
    }

    /// The same endpoint for a call that is answered later than others, or with pauses.
    pub(crate) fn with_patience(&self, idle: Duration, extra: Duration) -> Result<Api, ClientError> {
        let timeouts = Timeouts {
            idle,
            ..self.config.timeouts
        };
        api(&self.config, timeouts, extra)
    }

    /// Submits a task: `POST /v1/tasks`. With a `task_id` of the caller's own, sending the same request again is
    /// the same task.
    ///
    /// # Errors
    /// Any [`ClientError`]; a refusal at admission is [`ClientError::Api`].
    pub async fn submit(&self, task: &TaskRequest) -> Result<Submitted, ClientError> {
        let request = Request::post("/v1/tasks")
            .json(task)
            .map_err(|e| self.api.error(e))?;
        let reply = self.api.send(request).await?;
        let correlation_id = headers::text(&reply.headers, "x-correlation-id").and_then(CorrelationId::parse);
        Ok(Submitted {
            receipt: reply.json().map_err(|e| self.api.error(e))?,
            budgets: Budgets::read(&reply.headers),
            correlation_id,
        })
    }

    /// Follows a task: `GET /v1/tasks/{id}/stream`, from after `last_event_id` where one is given.
    ///
    /// Ends after the terminal event, or at once when that lies before `last_event_id`. A connection that breaks off
    /// earlier is taken up again after the last numbered event by the [`ResumePolicy`](crate::ResumePolicy), so that numbered events
    /// neither repeat nor go missing; `metrics` and `narration` events, which have no id, may. Events of unknown names
    /// are skipped. A first connection that fails is not tried again.
    ///
    /// Every item may be awaited in a `select!`: a dropped wait loses nothing. After an error the stream ends.
    pub fn stream(
        &self,
        task: TaskId,
        last_event_id: Option<String>,
    ) -> impl Stream<Item = Result<StreamItem, ClientError>> + Send + use<> {
        let path = format!("/v1/tasks/{task}/stream");
        let state = TaskStream::new(self.api.clone(), path, self.config.resume, last_event_id);
        stream::unfold(state, |mut state| async {
            let item = state.next().await?;
            Some((item, state))
        })
    }

    /// Cancels a task: `POST /v1/tasks/{id}/cancel`. No token is delivered after the answer. A finished task is left
    /// as it is.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn cancel(&self, task: TaskId) -> Result<(), ClientError> {
        let request = Request::post(format!("/v1/tasks/{task}/cancel"));
        self.api.send(request).await.map(drop)
    }

    /// One task: `GET /v1/tasks/{id}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn task(&self, task: TaskId) -> Result<TaskStatus, ClientError> {
        self.api.get(&format!("/v1/tasks/{task}")).await
    }

    /// The latest decision about a task, with its input: `GET /v1/tasks/{id}/decision`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn decision(&self, task: TaskId) -> Result<DecisionRecord, ClientError> {
        self.api.get(&format!("/v1/tasks/{task}/decision")).await
    }

    /// Where a task would be placed now; nothing is enqueued: `POST /v1/placement/explain`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn explain(&self, task: &TaskRequest) -> Result<DecisionRecord, ClientError> {
        self.api.post("/v1/placement/explain", task).await
    }

    /// One page of tasks: `GET /v1/tasks`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn tasks(&self, query: &TaskQuery) -> Result<TaskList, ClientError> {
        self.api.get(&format!("/v1/tasks{}", task_query(query))).await
    }

    /// One session of the caller's: `GET /v1/sessions/{id}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn session(&self, session: &SessionId) -> Result<SessionStatus, ClientError> {
        self.api.get(&format!("/v1/sessions/{session}")).await
    }

    /// Ends a session and none of its tasks: `DELETE /v1/sessions/{id}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn end_session(&self, session: &SessionId) -> Result<(), ClientError> {
        let request = Request::new(Method::DELETE, format!("/v1/sessions/{session}"));
        self.api.send(request).await.map(drop)
    }

    /// All pools: `GET /v1/pools`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pools(&self) -> Result<PoolList, ClientError> {
        self.api.get("/v1/pools").await
    }

    /// One pool: `GET /v1/pools/{id}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pool(&self, pool: &PoolId) -> Result<PoolStatus, ClientError> {
        self.api.get(&format!("/v1/pools/{pool}")).await
    }

    /// A pool's liveness and readiness: `GET /v1/pools/{id}/health`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn pool_health(&self, pool: &PoolId) -> Result<PoolHealth, ClientError> {
        self.api.get(&format!("/v1/pools/{pool}/health")).await
    }

    /// All nodes: `GET /v1/nodes`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn nodes(&self) -> Result<NodeList, ClientError> {
        self.api.get("/v1/nodes").await
    }

    /// What can be asked for right now: `GET /v1/capabilities`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn capabilities(&self) -> Result<Capabilities, ClientError> {
        self.api.get("/v1/capabilities").await
    }

    /// Announces a node: `POST /v1/workers/register`.
    ///
    /// # Errors
    /// Any [`ClientError`]; 401 and 403 carry a hint about the token.
    pub async fn register(&self, report: &NodeReport) -> Result<DesiredState, ClientError> {
        self.api.post("/v1/workers/register", report).await
    }

    /// Tells a node's full state: `POST /v1/workers/{node_id}/heartbeat`. Unknown nodes get
    /// [`NotFound`](api_types::ErrorCode::NotFound): register again.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn heartbeat(&self, node: &NodeId, report: &NodeReport) -> Result<DesiredState, ClientError> {
        self.api
            .post(&format!("/v1/workers/{node}/heartbeat"), report)
            .await
    }

    /// Takes a node out: `DELETE /v1/workers/{node_id}`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn deregister(&self, node: &NodeId) -> Result<(), ClientError> {
        let request = Request::new(Method::DELETE, format!("/v1/workers/{node}"));
        self.api.send(request).await.map(drop)
    }
}

fn api(config: &ClientConfig, timeouts: Timeouts, extra: Duration) -> Result<Api, ClientError> {
    let client = http_util::Client::new(timeouts.options(extra)).map_err(ClientError::Setup)?;
    Api::new(&client, "orchestratord", &config.base_url, config.token.as_ref())
}

fn task_query(query: &TaskQuery) -> String {
    let pairs = [
        ("state", query.state.map(|state| state.to_string())),
        ("cursor", query.cursor.clone()),
        ("limit", query.limit.map(|limit| limit.to_string())),
    ];
    query_string(pairs)
}

/// `?a=b&c=d` of the pairs that have a value; empty when none has.
pub(crate) fn query_string<const N: usize>(pairs: [(&str, Option<String>); N]) -> String {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            text.append_pair(name, &value);
        }
    }
    let text = text.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}
