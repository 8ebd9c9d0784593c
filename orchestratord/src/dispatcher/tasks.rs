//! The task table: every task the daemon knows, live ones and those that ended within the resume
//! window. Owns records and their retention; the queue and the leases live elsewhere.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api_types::task::{Timings, Usage};
use api_types::{
    CorrelationId, ErrorBody, ErrorCode, FinishReason, Priority, TaskEvent, TaskId, TaskReceipt, TaskRequest,
    TaskState, TaskStatus,
};
use orchestrator_core::eta::Demand;
use orchestrator_core::policy::JobSpec;
use orchestrator_core::queue::Ticket;
use task_journal::RunRecord;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::decisions::Decided;
use super::handle::PromptTokens;
use super::views::Live;
use crate::continuation::Continuation;
use crate::receipt::{self, Admitted, RunFacts};
use crate::task_log::TaskLog;

/// A run in progress, or the last one.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// Where it runs.
    pub facts: Arc<RunFacts>,
    /// Stops the run, whose log is sealed.
    pub run: Option<AbortHandle>,
    /// Whether the slot is still taken.
    pub held: bool,
}

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    /// The request as admitted; its prompt is dropped when the task ends.
    pub request: TaskRequest,
    /// Digest of the request, for idempotent repeats.
    pub fingerprint: [u8; 32],
    /// What the policy needs to know.
    pub spec: JobSpec,
    /// Its size as far as known, for estimates.
    pub demand: Demand,
    /// The request's correlation id.
    pub correlation: CorrelationId,
    /// Who asked, as logged.
    pub identity: String,
    /// Its output.
    pub log: TaskLog,
    /// Where it is in its life.
    pub state: TaskState,
    /// Admission facts for the receipt.
    pub admitted: Arc<Admitted>,
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// The answer the client got.
    pub receipt: TaskReceipt,
    /// Its slot.
    pub lease: Option<Lease>,
    /// Times it was given a slot.
    pub attempts: u32,
    /// Its place in the queue, once it has left it: it goes back there if its engine fails it.
    pub ticket: Option<Ticket>,
    /// The last decision about it.
    pub decision: Option<Decided>,
    /// What the last `metrics` frame said.
    pub shown: Option<Live>,
    /// How it ended, without an error.
    pub finish_reason: Option<FinishReason>,
    /// How it ended, with an error.
    pub error: Option<ErrorBody>,
    /// Tokens as the engine counted them.
    pub usage: Usage,
    /// The prompt's length, as far as known at admission.
    pub prompt_tokens: PromptTokens,
    /// All it takes in, as far as known at admission.
    pub total_tokens: PromptTokens,
    /// Whether the journal has its admission.
    pub recorded: bool,
    /// Whether its admission was taken back, since the journal could not record it.
    pub withdrawn: bool,
    /// What of it an earlier process has done.
    pub continuation: Continuation,
    /// Its run in an earlier process.
    pub last_run: Option<RunRecord>,
    /// Where its time went, when it ended in an earlier process.
    pub ended_timings: Option<Timings>,
}

impl Task {
    /// The task's class.
    #[must_use]
    pub(super) const fn priority(&self) -> Priority {
        self.request.priority
    }

    /// Facts of its current or last run.
    #[must_use]
    pub(super) fn facts(&self) -> Option<&RunFacts> {
        self.lease.as_ref().map(|lease| &*lease.facts)
    }

    /// `GET /v1/tasks/{id}`; position and estimate are the caller's.
    #[must_use]
    pub(super) fn status(&self, id: TaskId, live: Live, now: Instant) -> TaskStatus {
        let progress = self.log.progress();
        let facts = self.facts();
        let told = self.told();
        let last = self.last_run.as_ref().filter(|_| self.state.is_terminal());
        TaskStatus {
            task_id: id,
            state: told.0,
            priority: self.priority(),
            model_ref: self.request.model_ref.clone(),
            session_id: self.request.session_id.clone(),
            queue_position: live.position,
            predicted_start_ms: live.estimate.start_ms,
            predicted_end_ms: live.estimate.end_ms,
            on_time_probability: live.estimate.on_time,
            pool_id: facts
                .map(|f| f.pool_id.clone())
                .or_else(|| last.map(|run| run.pool_id.clone())),
            replica_id: facts
                .map(|f| f.replica_id.clone())
                .or_else(|| last.map(|run| run.replica_id.clone())),
            seed: self.admitted.seed,
            usage: Usage {
                tokens_out: self.usage.tokens_out.max(progress.generated),
                ..self.usage
            },
            timings: self
                .ended_timings
                .unwrap_or_else(|| receipt::timings(&self.admitted, facts, &progress, now)),
            finish_reason: told.1,
            error: told.2,
            correlation_id: self.correlation.clone(),
            stream_url: self.receipt.stream_url.clone(),
        }
    }

    /// State and outcome as its readers know them. A run seals its log a moment before the dispatcher
    /// hears of it, and no client shall see the terminal event first and a running task afterwards.
    fn told(&self) -> (TaskState, Option<FinishReason>, Option<ErrorBody>) {
        match self.log.terminal().filter(|_| !self.state.is_terminal()) {
            Some(event) => outcome(event),
            None => (self.state, self.finish_reason, self.error.clone()),
        }
    }

    /// Releases what only a live task needs.
    fn shed(&mut self) {
        self.request.prompt = None;
        self.request.messages = None;
        self.request.inputs = None;
        self.continuation = Continuation::Begin;
    }
}

/// State, finish reason and error of a task that ended with this event.
pub(super) fn outcome(terminal: TaskEvent) -> (TaskState, Option<FinishReason>, Option<ErrorBody>) {
    match terminal {
        TaskEvent::End(end) => {
            let state = match end.finish_reason {
                FinishReason::Stop | FinishReason::Length => TaskState::Completed,
                FinishReason::Canceled => TaskState::Canceled,
                FinishReason::Deadline => TaskState::Expired,
            };
            (state, Some(end.finish_reason), None)
        }
        TaskEvent::Error(body) => {
            let state = match body.code {
                ErrorCode::QueueFullDropLru => TaskState::Evicted,
                _ if receipt::is_interruption(&body) => TaskState::Interrupted,
                _ => TaskState::Failed,
            };
            (state, None, Some(*body))
        }
        // Logs are sealed with the two above only.
        _ => (TaskState::Failed, None, None),
    }
}

/// How long and how many ended tasks are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// How long an ended task stays readable.
    pub window: Duration,
    /// Most ended tasks kept.
    pub tasks: usize,
}

/// The table.
#[derive(Debug)]
pub(super) struct TaskTable {
    retention: Retention,
    tasks: HashMap<TaskId, Task>,
    ended: VecDeque<(Instant, TaskId)>,
    deadlines: BTreeSet<(Instant, TaskId)>,
    /// Forgotten since they were last asked for.
    forgotten: Vec<TaskId>,
}

impl TaskTable {
    /// An empty table.
    #[must_use]
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            retention,
            tasks: HashMap::new(),
            ended: VecDeque::new(),
            deadlines: BTreeSet::new(),
            forgotten: Vec::new(),
        }
    }

    /// Adds a task.
    pub(super) fn insert(&mut self, id: TaskId, task: Task) {
        if let Some(deadline) = task.deadline {
            self.deadlines.insert((deadline, id));
        }
        self.tasks.insert(id, task);
    }

    /// One task.
    #[must_use]
    pub(super) fn get(&self, id: &TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    /// One task, to change.
    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(id)
    }

    /// All tasks in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TaskId, &Task)> {
        self.tasks.iter()
    }

    /// Puts a task that ended at `at` into retention: what ended first is forgotten first, also after a restart, which
    /// finds them in another order.
    pub(super) fn retire(&mut self, id: TaskId, at: Instant) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.shed();
        if let Some(deadline) = task.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        let place = self.ended.partition_point(|&(earlier, _)| earlier <= at);
        self.ended.insert(place, (at, id));
        while self.ended.len() > self.retention.tasks {
            self.forget_oldest();
        }
    }

    /// Forgets ended tasks whose window has passed.
    pub(super) fn sweep(&mut self, now: Instant) {
        while self
            .ended
            .front()
            .is_some_and(|&(at, _)| now.saturating_duration_since(at) >= self.retention.window)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.ended.pop_front() {
            self.tasks.remove(&id);
            self.forgotten.push(id);
        }
    }

    /// Ended tasks that were forgotten since the last call.
    pub(super) fn take_forgotten(&mut self) -> Vec<TaskId> {
        std::mem::take(&mut self.forgotten)
    }

    /// Removes an ended task before its time.
    pub(super) fn remove(&mut self, id: &TaskId) {
        self.ended.retain(|(_, ended)| ended != id);
        self.tasks.remove(id);
    }

    /// The next deadline of a live task.
    #[must_use]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// Live tasks whose deadline has passed.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<TaskId> {
        let mut expired = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            expired.push(id);
        }
        expired
    }
}
