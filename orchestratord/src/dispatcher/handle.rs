//! The dispatcher's handle: typed calls over one bounded channel. Nobody outside sees a sender.

use api_types::capabilities::Capabilities;
use api_types::link::{DesiredState, NodeReport, NodeStatus};
use api_types::pool::PoolStatus;
use api_types::{
    CorrelationId, ErrorBody, ErrorCode, NodeId, OperationAccepted, PoolId, ReplicaId, SessionStatus, TaskId,
    TaskReceipt, TaskRequest, TaskState, TaskStatus,
};
use orchestrator_core::policy::DecisionRecord;
use tokio::sync::{mpsc, oneshot};

use super::fleet::ReportRefused;
use super::operations::{Ask, NotOperated, Waiting};
use super::sessions::SessionKey;
use crate::signals::Signals;
use crate::task_log::TaskLog;
use crate::trace::Trace;

/// Commands that may wait in the channel; beyond them callers wait, which is the front's
/// backpressure. Each is small and handled in microseconds.
pub(super) const COMMANDS: usize = 1024;

/// A request to admit a task.
#[derive(Debug)]
pub struct Admission {
    /// The validated request.
    pub request: TaskRequest,
    /// Tokens that must fit into a context at once, as far as known: the prompt, or the longest input.
    pub prompt_tokens: PromptTokens,
    /// Tokens of everything the engine has to read, as far as known.
    pub total_tokens: PromptTokens,
    /// The request's correlation id.
    pub correlation: CorrelationId,
    /// Who asks, as logged.
    pub identity: String,
    /// Announces the request to the journal's writer.
    pub in_flight: Option<task_journal::InFlight>,
    /// The trace that the task will leave.
    pub trace: Option<Box<Trace>>,
}

/// What is known about a prompt's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptTokens {
    /// At most this many: every token of a text covers at least one of its bytes.
    AtMost(u32),
    /// Counted by the engine's tokenizer.
    Exactly(u32),
    /// Not known, and nothing bounds it: the model's template may add any text to a chat.
    Unbounded,
}

/// What became of an admission.
#[derive(Debug)]
pub enum Admitted {
    /// It waits or runs.
    Receipt(TaskReceipt),
    /// What is known does not prove that the input fits: count and ask again.
    Count(Tokenizer),
    /// It does not wait.
    Refused(Box<ErrorBody>),
}

/// A request whose placement is asked for.
#[derive(Debug)]
pub struct Preview {
    /// The validated request.
    pub request: TaskRequest,
    /// The prompt's tokens, as far as known.
    pub prompt_tokens: PromptTokens,
    /// Who asks, as logged; sessions are theirs.
    pub identity: String,
}

/// The answer to a [`Preview`].
#[derive(Debug)]
pub enum Explained {
    /// The decision.
    Record(Box<DecisionRecord>),
    /// What is known does not prove that the input fits: count and ask again.
    Count(Tokenizer),
}

/// A ready engine that can count a request's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenizer {
    /// Its pool.
    pub pool_id: PoolId,
    /// The engine process.
    pub replica_id: ReplicaId,
    /// Tokens that the largest context of the model's pools holds.
    pub ctx_max: u32,
}

pub(super) enum Command {
    Admit(Box<Admission>, oneshot::Sender<Admitted>),
    Cancel(TaskId, oneshot::Sender<Option<TaskLog>>),
    Open(TaskId, oneshot::Sender<Option<TaskLog>>),
    Status(TaskId, oneshot::Sender<Option<TaskStatus>>),
    Decision(TaskId, oneshot::Sender<Option<Option<DecisionRecord>>>),
    Explain(Box<Preview>, oneshot::Sender<Explained>),
    Session(SessionKey, oneshot::Sender<Option<SessionStatus>>),
    EndSession(SessionKey, oneshot::Sender<bool>),
    List(ListFilter, oneshot::Sender<Vec<TaskStatus>>),
    Register(
        Box<NodeReport>,
        oneshot::Sender<Result<DesiredState, ReportRefused>>,
    ),
    Heartbeat(
        Box<NodeReport>,
        oneshot::Sender<Result<DesiredState, ReportRefused>>,
    ),
    Deregister(NodeId, oneshot::Sender<bool>),
    Operate(PoolId, Box<Ask>, Waiting),
    Nodes(oneshot::Sender<Vec<NodeStatus>>),
    Pools(oneshot::Sender<Vec<PoolStatus>>),
    Capabilities(oneshot::Sender<Capabilities>),
    Ping(oneshot::Sender<()>),
}

/// Which tasks to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Only this state.
    pub state: Option<TaskState>,
    /// Only tasks older than this one (the last of the page before).
    pub before: Option<TaskId>,
    /// Most tasks.
    pub limit: usize,
}

/// The dispatcher is gone: the daemon is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the orchestrator is shutting down")]
pub struct Gone;

impl From<Gone> for ErrorBody {
    fn from(gone: Gone) -> Self {
        Self::new(ErrorCode::PoolUnavailable, gone.to_string()).with_reason("shutting_down")
    }
}

/// Calls into the dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) signals: Signals,
}

impl Handle {
    /// Admits a task, or says why not.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn admit(&self, admission: Admission) -> Result<Admitted, Gone> {
        self.call(|reply| Command::Admit(Box::new(admission), reply))
            .await
    }

    /// Cancels a task; `None` when it is unknown. Once this returns no token frame is written to any client.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn cancel(&self, task: TaskId) -> Result<Option<()>, Gone> {
        let Some(log) = self.call(|reply| Command::Cancel(task, reply)).await? else {
            return Ok(None);
        };
        log.sent().await;
        Ok(Some(()))
    }

    /// The log of a task.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn open(&self, task: TaskId) -> Result<Option<TaskLog>, Gone> {
        self.call(|reply| Command::Open(task, reply)).await
    }

    /// One task.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn status(&self, task: TaskId) -> Result<Option<TaskStatus>, Gone> {
        self.call(|reply| Command::Status(task, reply)).await
    }

    /// The latest decision about a task; the outer `None` is an unknown task, the inner one a task
    /// about which nothing was decided in this process.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn decision(&self, task: TaskId) -> Result<Option<Option<DecisionRecord>>, Gone> {
        self.call(|reply| Command::Decision(task, reply)).await
    }

    /// Where a request would be placed now; nothing is enqueued or counted.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn explain(&self, preview: Preview) -> Result<Explained, Gone> {
        self.call(|reply| Command::Explain(Box::new(preview), reply))
            .await
    }

    /// One session.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn session(&self, key: SessionKey) -> Result<Option<SessionStatus>, Gone> {
        self.call(|reply| Command::Session(key, reply)).await
    }

    /// Ends a session, but none of its tasks; `false` when it is unknown.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn end_session(&self, key: SessionKey) -> Result<bool, Gone> {
        self.call(|reply| Command::EndSession(key, reply)).await
    }

    /// Tasks, newest first.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn list(&self, filter: ListFilter) -> Result<Vec<TaskStatus>, Gone> {
        self.call(|reply| Command::List(filter, reply)).await
    }

    /// Takes a node's registration.
    ///
    /// # Errors
    /// [`Gone`]; the inner result tells why a report was refused.
    pub async fn register(&self, report: NodeReport) -> Result<Result<DesiredState, ReportRefused>, Gone> {
        self.call(|reply| Command::Register(Box::new(report), reply))
            .await
    }

    /// Takes a node's heartbeat.
    ///
    /// # Errors
    /// [`Gone`]; the inner result tells why a report was refused.
    pub async fn heartbeat(&self, report: NodeReport) -> Result<Result<DesiredState, ReportRefused>, Gone> {
        self.call(|reply| Command::Heartbeat(Box::new(report), reply))
            .await
    }

    /// Forgets a node; `false` when it is unknown.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn deregister(&self, node: NodeId) -> Result<bool, Gone> {
        self.call(|reply| Command::Deregister(node, reply)).await
    }

    /// Has something done with a pool; returns when the pool's node has recorded it.
    ///
    /// # Errors
    /// [`Gone`]; the inner result tells why nothing becomes of it.
    pub async fn operate(
        &self,
        pool: PoolId,
        ask: Ask,
    ) -> Result<Result<OperationAccepted, NotOperated>, Gone> {
        self.call(|reply| Command::Operate(pool, Box::new(ask), reply))
            .await
    }

    /// All nodes.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, Gone> {
        self.call(Command::Nodes).await
    }

    /// All pools by id.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn pools(&self) -> Result<Vec<PoolStatus>, Gone> {
        self.call(Command::Pools).await
    }

    /// What can be asked at this moment.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn capabilities(&self) -> Result<Capabilities, Gone> {
        self.call(Command::Capabilities).await
    }

    /// Answers when the decision loop does.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn ping(&self) -> Result<(), Gone> {
        self.call(Command::Ping).await
    }

    /// Where the readers of a task leave word.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    async fn call<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
