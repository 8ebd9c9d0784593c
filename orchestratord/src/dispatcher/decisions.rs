//! What was decided about each task, kept for explanation and replay (ORCH-3962,
//! REQ-DECISION-REPLAY).
//!
//! Owns the snapshots that decisions were made on. Tasks of one round share one snapshot, and all
//! of them together hold at most a configured number of pool states: the oldest make room, and a
//! task whose snapshot is gone keeps its decision without its input.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use api_types::{CorrelationId, ErrorBody, ErrorCode, PoolId, TaskId, TaskState};
use orchestrator_core::dispatch::Assignment;
use orchestrator_core::policy::{
    DecisionRecord, JobSpec, Outcome, PlacementDecision, PlacementInput, Snapshot, Stage, decide, explain,
};
use tokio::time::Instant;

use super::Dispatcher;
use super::admit::job_spec;
use super::handle::{Explained, Preview, PromptTokens};
use super::sessions::prefer;
use super::tasks::Task;
use crate::story::ACTOR;

/// Most pools of a decision's input that goes into a trace: some 30 KiB.
const TRACED_POOLS: usize = 64;

/// A decision about one task.
#[derive(Debug, Clone)]
pub(super) struct Decided {
    stage: Stage,
    /// One plain sentence.
    pub human: String,
    /// The decision.
    pub decision: PlacementDecision,
    on: Basis,
}

/// The snapshot of a round, less the slots that the decisions before this one took.
#[derive(Debug, Clone)]
struct Basis {
    snapshot: Weak<Snapshot>,
    taken: Arc<[PoolId]>,
    before: usize,
}

impl Basis {
    fn snapshot(&self) -> Option<Snapshot> {
        let mut snapshot = Snapshot::clone(&*self.snapshot.upgrade()?);
        for pool in self.taken.get(..self.before)? {
            snapshot.take_slot(pool).ok()?;
        }
        Some(snapshot)
    }
}

impl Decided {
    /// What the task's trace keeps of it: the input only where it is small.
    pub(super) fn for_trace(self, id: TaskId, job: &JobSpec) -> DecisionRecord {
        let pools = self
            .on
            .snapshot
            .upgrade()
            .map_or(0, |snapshot| snapshot.pools.len());
        if pools <= TRACED_POOLS {
            return self.record(id, job);
        }
        DecisionRecord::without_input(self.stage, self.human, self.decision).of(id)
    }

    /// What the API shows of it.
    fn record(&self, id: TaskId, job: &JobSpec) -> DecisionRecord {
        let decision = self.decision.clone();
        match self.on.snapshot() {
            Some(snapshot) => DecisionRecord::new(self.stage, job.clone(), snapshot, decision),
            None => DecisionRecord::without_input(self.stage, self.human.clone(), decision),
        }
        .of(id)
    }
}

/// The snapshots that are kept.
#[derive(Debug)]
pub(super) struct Decisions {
    kept: VecDeque<Arc<Snapshot>>,
    pools: usize,
    /// Most pool states of all kept snapshots together.
    limit: usize,
}

impl Decisions {
    /// Keeps at most `limit` pool states.
    #[must_use]
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            pools: 0,
            limit,
        }
    }

    /// Keeps the snapshot of a round and tells what was decided on it, in order. Each decision was
    /// made on the slots that the ones before it had left.
    pub(super) fn round<'j>(
        &mut self,
        base: Arc<Snapshot>,
        assignments: &[Assignment],
        job: impl Fn(&TaskId) -> Option<&'j JobSpec>,
    ) -> Vec<Decided> {
        let taken: Arc<[PoolId]> = assignments.iter().map(|a| a.pool_id.clone()).collect();
        let mut seen = Cow::Borrowed(&*base);
        let mut decided = Vec::with_capacity(assignments.len());
        for (before, assignment) in assignments.iter().enumerate() {
            let human = job(&assignment.ticket.id)
                .map(|job| explain(&PlacementInput::new(job, &seen), &assignment.decision));
            decided.push(Decided {
                stage: Stage::Placed,
                human: human.unwrap_or_default(),
                decision: assignment.decision.clone(),
                on: Basis {
                    snapshot: Arc::downgrade(&base),
                    taken: Arc::clone(&taken),
                    before,
                },
            });
            if before + 1 < assignments.len() {
                // The core took it in just this order.
                let _taken = seen.to_mut().take_slot(&assignment.pool_id);
            }
        }
        drop(seen);
        self.keep(base);
        decided
    }

    /// Keeps the snapshot on which a task that leaves the queue without a slot is judged last.
    fn left(&mut self, base: &Arc<Snapshot>, job: &JobSpec) -> Decided {
        let input = PlacementInput::new(job, base);
        let decision = decide(&input);
        let decided = Decided {
            stage: Stage::Left,
            human: explain(&input, &decision),
            decision,
            on: Basis {
                snapshot: Arc::downgrade(base),
                taken: Arc::new([]),
                before: 0,
            },
        };
        self.keep(Arc::clone(base));
        decided
    }

    fn keep(&mut self, snapshot: Arc<Snapshot>) {
        if self.kept.back().is_some_and(|last| Arc::ptr_eq(last, &snapshot)) {
            return;
        }
        self.pools += snapshot.pools.len();
        self.kept.push_back(snapshot);
        while self.pools > self.limit
            && let Some(oldest) = self.kept.pop_front()
        {
            self.pools -= oldest.pools.len();
        }
    }
}

impl Dispatcher {
    /// `GET /v1/tasks/{id}/decision`: the latest evaluation of a waiting task, else the last
    /// decision about it. The outer `None` is an unknown task, the inner one a task about which
    /// nothing was decided in this process.
    pub(super) fn decision(&mut self, id: TaskId) -> Option<Option<DecisionRecord>> {
        let waits = self.queue.get(&id).is_some();
        let task = self.tasks.get(&id)?;
        if !waits {
            return Some(task.decision.as_ref().map(|d| d.record(id, &task.spec)));
        }
        let snapshot = self.planner.snapshot(&self.fleet, Instant::now());
        let decision = decide(&PlacementInput::new(&task.spec, snapshot));
        let snapshot = Snapshot::clone(snapshot);
        Some(Some(
            DecisionRecord::new(Stage::Waiting, task.spec.clone(), snapshot, decision).of(id),
        ))
    }

    /// `POST /v1/placement/explain`: decides as for an admission and changes nothing.
    pub(super) fn explain(&mut self, preview: &Preview) -> Explained {
        let now = Instant::now();
        let last_pool = self.last_pool(&preview.request, &preview.identity, now);
        let spec = prefer(job_spec(&preview.request, preview.prompt_tokens), last_pool);
        let snapshot = self.planner.snapshot(&self.fleet, now);
        let decision = decide(&PlacementInput::new(&spec, snapshot));
        let snapshot = Snapshot::clone(snapshot);
        if unsure(&decision.outcome, preview.prompt_tokens)
            && let Some(tokenizer) = self.tokenizer_of(&preview.request)
        {
            return Explained::Count(tokenizer);
        }
        let record = DecisionRecord::new(Stage::Preview, spec, snapshot, decision);
        Explained::Record(Box::new(record))
    }

    /// A task leaves the queue without a slot: the last evaluation is kept.
    pub(super) fn remember_left(&mut self, id: TaskId) {
        let queued = |task: &&mut Task| task.state == TaskState::Queued;
        if let Some(task) = self.tasks.get_mut(&id).filter(queued) {
            let snapshot = self.planner.snapshot(&self.fleet, Instant::now());
            task.decision = Some(self.decisions.left(snapshot, &task.spec));
            task.trace_decision(id);
        }
    }

    /// The line of the log about a decision (ORCH-3962), and its counter.
    pub(super) fn tell_decision(&self, id: TaskId, task: &Task) {
        let Some(decided) = &task.decision else { return };
        let log = &decided.decision.log;
        let candidates = log.candidates_considered as usize;
        let outcome = decided.decision.outcome.as_str();
        self.parts
            .metrics
            .placement(outcome, log.pinned, log.fallback_used, candidates);
        log_decision(&decided.decision, Some(id), &task.correlation);
    }
}

/// Whether an exact count could change the outcome: the pools are too small for a mere bound, or they are taken to be large
/// enough for what nothing bounds (ORCH-3522).
pub(super) fn unsure(outcome: &Outcome, prompt: PromptTokens) -> bool {
    match (outcome, prompt) {
        (Outcome::Refused(refused), PromptTokens::AtMost(_)) => {
            refused.refusal.code() == ErrorCode::InvalidParams
        }
        (Outcome::Refused(_), _) | (_, PromptTokens::AtMost(_) | PromptTokens::Exactly(_)) => false,
        (_, PromptTokens::Unbounded) => true,
    }
}

/// One line per decision: filters, tie-breakers, candidates, pin and fallback.
pub(super) fn log_decision(decision: &PlacementDecision, task: Option<TaskId>, correlation: &CorrelationId) {
    let log = &decision.log;
    let removed = log.filters_applied.iter().filter(|applied| applied.removed > 0);
    let removed: Vec<String> = removed
        .map(|applied| format!("{}:{}", wire(&applied.filter), applied.removed))
        .collect();
    let tie_breakers: Vec<String> = log.tie_breakers_applied.iter().map(wire).collect();
    tracing::info!(
        actor = ACTOR,
        action = "decision",
        decision = decision.outcome.as_str(),
        pool_id = decision.outcome.pool_id().map(PoolId::as_str),
        pinned = log.pinned,
        fallback_used = log.fallback_used,
        candidates_considered = log.candidates_considered,
        filters_removed = removed.join(" "),
        tie_breakers_applied = tie_breakers.join(" "),
        policy_version = log.policy_version,
        snapshot_version = log.snapshot_version,
        job_id = task.map(tracing::field::display),
        correlation_id = %correlation,
        "placement decided"
    );
}

/// The wire name of one of the policy's closed sets.
fn wire(value: &impl serde::Serialize) -> String {
    let name = serde_json::to_value(value).ok();
    name.and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The answer about a task whose decisions are not known.
#[must_use]
pub fn undecided(id: TaskId) -> ErrorBody {
    let message = format!("no decision about task {id} is known: it ended before this orchestrator started");
    ErrorBody::new(ErrorCode::NotFound, message)
}
