//! Giving out free slots: from the core's assignments to running tasks.

use std::sync::Arc;

use adapter_api::{Job as EngineJob, JobInput};
use api_types::{Determinism, MetricsEvent, Phase, PoolId, TaskEvent, TaskId, TaskRequest, Workload};
use narration_core::Narration;
use orchestrator_core::dispatch::{Assignment, assign};
use orchestrator_core::policy::PoolView;
use orchestrator_core::task::{Event, step};
use tokio::time::Instant;

use super::Dispatcher;
use super::decisions::Decided;
use super::durable::run_record;
use super::estimate::Estimate;
use super::tasks::{Lease, Task};
use crate::metrics::PoolLabels;
use crate::receipt::RunFacts;
use crate::runner::Run;
use crate::story::ACTOR;

impl Dispatcher {
    /// Gives free slots to waiting tasks, if anything changed since the last time (ORCH-3254).
    pub(super) fn give_out_slots(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        self.show_queue_depth();
        if self.queue.is_empty() {
            return;
        }
        let now = Instant::now();
        self.assign_slots(now);
        self.meet_demand(now);
    }

    fn assign_slots(&mut self, now: Instant) {
        let now_ms = self.now_ms(now);
        let base = Arc::clone(self.planner.snapshot(&self.fleet, now));
        if !base.pools.iter().any(PoolView::has_free_slot) {
            return;
        }
        let snapshot = self.planner.snapshot_mut();
        let assignments = assign(&self.queue, snapshot, &mut self.turns, now_ms);
        if assignments.is_empty() {
            return;
        }
        let tasks = &self.tasks;
        let job = |id: &TaskId| tasks.get(id).map(|task| &task.spec);
        let decided = self.decisions.round(base, &assignments, job);
        for (assignment, decided) in assignments.into_iter().zip(decided) {
            self.start(assignment, decided, now);
        }
        self.show_queue_depth();
    }

    fn start(&mut self, assignment: Assignment, decided: Decided, now: Instant) {
        let id = assignment.ticket.id;
        let Some(facts) = self.lease(&assignment.pool_id, now) else {
            // The snapshot and the fleet disagree, which is a bug; the task keeps its place.
            tracing::error!(pool_id = %assignment.pool_id, "an assigned slot cannot be leased");
            self.planner.invalidate();
            return;
        };
        self.queue.remove(&id);
        self.lines.leave(&id);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let Ok(transition) = step(task.state, Event::Dispatch) else {
            return;
        };
        task.state = transition.to;
        task.attempts += 1;
        task.ticket = Some(assignment.ticket);
        let facts = Arc::new(facts);
        task.lease = Some(Lease {
            facts: Arc::clone(&facts),
            run: None,
            held: true,
        });
        let sentence = decided.human.clone();
        task.decision = Some(decided);
        task.trace_placement(id, &facts);
        let (demand, log) = (task.demand, task.log.clone());
        self.planner.started(&facts.pool_id, id, demand, log, now);
        self.note_edge(id);
        self.tell_started(id, &sentence, now);
        self.spawn(id, facts);
    }

    fn lease(&mut self, pool: &PoolId, now: Instant) -> Option<RunFacts> {
        let replica = self.fleet.lease(pool, now)?;
        let pool = self.fleet.pool(pool)?;
        let address = self.fleet.address(&pool.node).unwrap_or_default();
        RunFacts::of(&pool.report, replica, address, now)
    }

    fn spawn(&mut self, id: TaskId, facts: Arc<RunFacts>) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.log.count_from(task.continuation.generated_before());
        task.log.record_run(&run_record(&facts));
        let run = Run {
            task_id: id,
            job: task
                .continuation
                .job(engine_job(id, task, &facts, self.sessions.output_limit(&id))),
            continuation: task.continuation.clone(),
            deadline: task
                .deadline
                .into_iter()
                .chain(self.sessions.run_until(&id, facts.leased_at))
                .min(),
            facts,
            admitted: Arc::clone(&task.admitted),
            log: task.log.clone(),
            limits: self.options.run,
            correlation: task.correlation.clone(),
        };
        let (host, logs) = (Arc::clone(&self.parts.host), Arc::clone(&self.parts.logs));
        let running = self
            .parts
            .tracker
            .spawn(run.execute(host, logs, self.signals.clone()));
        if let Some(lease) = &mut task.lease {
            lease.run = Some(running.abort_handle());
        }
    }

    fn tell_started(&self, id: TaskId, sentence: &str, now: Instant) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(facts) = task.facts() else { return };
        let waited = now.saturating_duration_since(task.admitted.at).as_millis() as u64;
        // The receipt told of the first start; one that comes again after a failure is another.
        if let Some(predicted) = task.receipt.predicted_start_ms.filter(|_| task.attempts == 1) {
            self.parts.metrics.start_error(predicted.abs_diff(waited));
        }
        self.parts
            .metrics
            .task_started(&PoolLabels::of(facts), task.priority());
        self.tell_decision(id, task);
        self.show_pool(&facts.pool_id);
        let estimate = self.estimate_running(&id, self.moment(now));
        self.offer(
            task,
            &TaskEvent::Metrics(self.decoding(task, facts, estimate, now)),
        );
        let line = Narration::new(ACTOR, "placement", &facts.pool_id, sentence)
            .pool_id(&facts.pool_id)
            .replica_id(&facts.replica_id)
            .model_id(&facts.model_id)
            .queue_time_ms(waited);
        self.narrate(id, task, line);
    }

    /// Numbers of a running task.
    pub(super) fn decoding(
        &self,
        task: &Task,
        facts: &RunFacts,
        estimate: Estimate,
        now: Instant,
    ) -> MetricsEvent {
        MetricsEvent {
            loaded_bytes: None,
            load_bytes: None,
            phase: Phase::Decoding,
            queue_position: None,
            predicted_start_ms: None,
            predicted_end_ms: estimate.end_ms,
            queue_depth: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            on_time_probability: estimate.on_time,
            kv_warmth: self.is_warm(task, facts, now),
            pool_id: Some(facts.pool_id.clone()),
            replica_id: Some(facts.replica_id.clone()),
            engine: Some(facts.engine),
            engine_version: facts.engine_version.clone(),
            model_digest: facts.model_digest.clone(),
            budgets: self.budgets_of(task, now),
        }
    }
}

fn engine_job(id: TaskId, task: &Task, facts: &RunFacts, output_limit: Option<u32>) -> EngineJob {
    let request = &task.request;
    EngineJob {
        task_id: id,
        input: job_input(request),
        // The engine stops at the end of its context anyway; the number must be explicit.
        max_tokens: if request.workload.generates() {
            let asked = request.max_tokens.unwrap_or(facts.ctx_max);
            asked.min(output_limit.unwrap_or(u32::MAX))
        } else {
            0
        },
        seed: task.admitted.seed,
        sampling: request.sampling.clone(),
        kv_hint: request.kv_hint,
        strict: request.determinism == Determinism::Strict,
    }
}

/// What the workload works on; the request's rules guarantee that it is there.
fn job_input(request: &TaskRequest) -> JobInput {
    let inputs = || request.inputs.as_deref().unwrap_or_default().into();
    match request.workload {
        Workload::Completion => JobInput::Prompt(request.prompt.as_deref().unwrap_or_default().into()),
        Workload::Chat => JobInput::Chat(request.messages.as_deref().unwrap_or_default().into()),
        Workload::Embedding => JobInput::Embedding(inputs()),
        Workload::Rerank => JobInput::Rerank {
            query: request.query.as_deref().unwrap_or_default().into(),
            documents: inputs(),
        },
    }
}
