//! Every way a task ends: by itself, by an error, a cancel, its deadline, an eviction, a shutdown.

use adapter_api::{AdapterError, Finish};
use api_types::task::Usage;
use api_types::{EndEvent, ErrorBody, ErrorCode, FinishReason, PolicyLabel, TaskEvent, TaskId, TaskState};
use narration_core::Narration;
use orchestrator_core::eta::Observation;
use orchestrator_core::task::{Event, step};
use tokio::time::Instant;

use super::Dispatcher;
use crate::metrics::PoolLabels;
use crate::receipt::{self, RunFacts};
use crate::runner::{RunOutcome, RunReport};
use crate::story::{self, ACTOR};
use crate::task_log::{Epilogue, TaskLog};

/// Times a task is given a slot before an engine's failure to start it is the task's failure.
pub(super) const MAX_ATTEMPTS: u32 = 3;

impl Dispatcher {
    /// A client cancels (ORCH-3204). Idempotent; `None` for an unknown task. Gives the log, whose readers may still be
    /// sending what they took before.
    pub(super) fn cancel(&mut self, id: TaskId) -> Option<TaskLog> {
        let log = self.tasks.get(&id)?.log.clone();
        self.cancel_because(id, "client", "A client cancels the task.");
        Some(log)
    }

    /// Nobody reads any more (ORCH-3205).
    pub(super) fn reader_gone(&mut self, id: TaskId) {
        if self.options.cancel_on_disconnect {
            self.abandoned
                .insert((Instant::now() + self.options.disconnect_grace, id));
        }
    }

    pub(super) fn cancel_abandoned(&mut self, id: TaskId) {
        if self.tasks.get(&id).is_some_and(|task| task.log.readers() == 0) {
            self.cancel_because(id, "disconnect", "The client is gone, so the task is cancelled.");
        }
    }

    fn cancel_because(&mut self, id: TaskId, reason: &'static str, sentence: &'static str) {
        let Some(task) = self.tasks.get(&id) else { return };
        if task.state.is_terminal() || !self.seal_end(id, FinishReason::Canceled, sentence) {
            return;
        }
        if let Some(task) = self.tasks.get(&id) {
            let labels = task
                .facts()
                .map_or_else(|| PoolLabels::unplaced(task.request.engine, None), PoolLabels::of);
            self.parts.metrics.task_canceled(&labels, task.priority(), reason);
            self.log_line(id, task, Narration::new(ACTOR, "cancel", &id, sentence));
        }
        self.conclude(id, Event::Cancel);
    }

    /// The deadline of a task has passed; a running one ends itself.
    pub(super) fn expire_queued(&mut self, id: TaskId) {
        let queued = self
            .tasks
            .get(&id)
            .is_some_and(|task| task.state == TaskState::Queued);
        let sentence = "The deadline passes while the task waits.";
        if queued && self.seal_end(id, FinishReason::Deadline, sentence) {
            self.narrate_end(id, "expiry", sentence);
            self.conclude(id, Event::Expire);
        }
    }

    /// A full queue drops the task (ORCH-3250). The core has removed it from the queue.
    pub(super) fn evict(&mut self, id: TaskId) {
        let retry_after = self.retry_after(Instant::now());
        let body = ErrorBody::new(
            ErrorCode::QueueFullDropLru,
            "the queue is full and a newer task took the place",
        )
        .with_policy(PolicyLabel::DropLru)
        .with_retry_after(retry_after);
        self.parts.metrics.backpressure("any", self.policy_name());
        self.seal_error(id, body);
        self.narrate_end(id, "eviction", "A full queue drops the task for a newer one.");
        self.conclude(id, Event::Evict);
    }

    /// What waits ends with a frame, or, when it survives, keeps its place: its streams are told and
    /// closed, and can be resumed after the restart (ORCH-3715).
    pub(super) fn end_queued_for_shutdown(&mut self) {
        let queued: Vec<TaskId> = self.queue.order(0).map(|(ticket, _)| ticket.id).collect();
        for id in queued {
            if self.durable.is_on() {
                self.park(
                    id,
                    "The orchestrator stops; the task keeps its place for the restart.",
                );
            } else {
                self.fail(id, self.shutting_down());
            }
        }
    }

    pub(super) fn end_running_for_shutdown(&mut self) {
        let running = |state| state == TaskState::Running;
        let ids: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| running(task.state))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if self.durable.takes_up() {
                self.park(id, "The orchestrator stops; the task goes on after the restart.");
                self.stop_run(id);
            } else {
                self.fail(id, self.shutting_down());
            }
        }
    }

    fn stop_run(&self, id: TaskId) {
        let lease = self.tasks.get(&id).and_then(|task| task.lease.as_ref());
        if let Some(run) = lease.and_then(|lease| lease.run.as_ref()) {
            run.abort();
        }
    }

    /// Ends a task that cannot be taken up again (ORCH-3712).
    pub(super) fn interrupt(&mut self, id: TaskId, why: &'static str) {
        self.seal_error(id, receipt::interrupted(why));
        self.narrate_end(
            id,
            "interruption",
            "A restart cut the task off; its text so far is kept.",
        );
        self.conclude(id, Event::Interrupt);
    }

    fn park(&self, id: TaskId, sentence: &'static str) {
        if let Some(task) = self.tasks.get(&id) {
            self.narrate(id, task, Narration::new(ACTOR, "stop", &id, sentence));
            task.log.park();
        }
    }

    pub(super) fn fleet_is_busy(&self) -> bool {
        self.tasks
            .iter()
            .any(|(_, task)| task.lease.as_ref().is_some_and(|lease| lease.held))
    }

    pub(super) fn fail(&mut self, id: TaskId, body: ErrorBody) {
        self.seal_error(id, body);
        self.conclude(id, Event::Fail);
    }

    /// A run has ended: its slot is free, whatever else happened (invariant 6).
    pub(super) fn run_ended(&mut self, id: TaskId, report: RunReport) {
        let Some(facts) = self.release(id) else { return };
        match report.outcome {
            RunOutcome::Ended(end, finish) => self.completed(id, &facts, *end, finish.as_ref()),
            RunOutcome::Failed(body) => self.failed(id, &facts, *body, Event::Fail),
            RunOutcome::Interrupted(body) => self.failed(id, &facts, *body, Event::Interrupt),
            RunOutcome::SealedElsewhere => self.planner.ended(&facts.pool_id, &facts.model_id, id, None),
            RunOutcome::NotStarted(error) => self.not_started(id, &facts, error),
        }
        self.show_pool(&facts.pool_id);
        self.drop_withdrawn(id);
    }

    fn release(&mut self, id: TaskId) -> Option<RunFacts> {
        let lease = self.tasks.get_mut(&id)?.lease.as_mut()?;
        lease.held = false;
        let facts = (*lease.facts).clone();
        self.fleet
            .release(&facts.pool_id, &facts.replica_id, Instant::now());
        self.dirty = true;
        Some(facts)
    }

    fn completed(&mut self, id: TaskId, facts: &RunFacts, end: EndEvent, finish: Option<&Finish>) {
        let seen = finish.map(|finish| observation(&end, finish, facts));
        self.planner
            .ended(&facts.pool_id, &facts.model_id, id, seen.as_ref());
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.usage = Usage {
            tokens_in: end.tokens_in,
            tokens_out: end.tokens_out,
        };
        task.finish_reason = Some(end.finish_reason);
        // A query is read once for every input, so its bytes tell nothing about tokens.
        let bytes = match task.request.query {
            None => task.request.input_bytes(),
            Some(_) => 0,
        };
        self.planner
            .counted(bytes, finish.map_or(0, |finish| finish.tokens_in));
        let event = match end.finish_reason {
            FinishReason::Deadline => Event::Expire,
            FinishReason::Canceled => Event::Cancel,
            FinishReason::Stop | FinishReason::Length => Event::Finish,
        };
        if let Some(task) = self.tasks.get(&id) {
            self.parts
                .metrics
                .run_ended(&PoolLabels::of(facts), task.priority(), &end);
            let line = Narration::new(ACTOR, "end", &id, story::end_sentence(&end))
                .engine(&facts.engine)
                .engine_version(facts.engine_version.as_ref())
                .pool_id(&facts.pool_id)
                .replica_id(&facts.replica_id)
                .model_id(&facts.model_id)
                .tokens_in(u64::from(end.tokens_in))
                .tokens_out(u64::from(end.tokens_out))
                .queue_time_ms(end.queue_time_ms)
                .first_token_ms(end.first_token_ms)
                .decode_time_ms(end.decode_time_ms);
            self.log_line(id, task, line);
        }
        self.conclude(id, event);
    }

    fn failed(&mut self, id: TaskId, facts: &RunFacts, body: ErrorBody, event: Event) {
        self.planner.ended(&facts.pool_id, &facts.model_id, id, None);
        if body.code == ErrorCode::WorkerReset && event == Event::Fail {
            self.fleet
                .suspect(&facts.pool_id, &facts.replica_id, facts.generation);
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.error = Some(body);
        if let Some(task) = self.tasks.get(&id) {
            let line = Narration::new(ACTOR, "failure", &id, story::FAILURE)
                .error()
                .pool_id(&facts.pool_id)
                .replica_id(&facts.replica_id);
            self.log_line(id, task, line);
        }
        self.conclude(id, event);
    }

    /// The engine broke or refused before the first token: place the task again, in its old place
    /// in the queue, away from that process (ORCH-3208).
    fn not_started(&mut self, id: TaskId, facts: &RunFacts, error: AdapterError) {
        self.planner.ended(&facts.pool_id, &facts.model_id, id, None);
        self.fleet
            .suspect(&facts.pool_id, &facts.replica_id, facts.generation);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.state.is_terminal() {
            return;
        }
        if task.attempts >= MAX_ATTEMPTS {
            let body =
                ErrorBody::new(error.code(), error.message).with_pool(facts.pool_id.clone(), facts.engine);
            return self.fail(id, body);
        }
        let Ok(transition) = step(task.state, Event::Requeue) else {
            return;
        };
        task.state = transition.to;
        let Some(ticket) = task.ticket else { return };
        let spec = task.spec.clone();
        self.requeue(ticket, &spec, Instant::now());
        self.note_edge(id);
        if let Some(task) = self.tasks.get(&id) {
            let line = Narration::new(
                ACTOR,
                "retry",
                &id,
                "The engine did not start the task; it is placed again.",
            )
            .warning()
            .pool_id(&facts.pool_id)
            .replica_id(&facts.replica_id)
            .decision(&error);
            self.narrate(id, task, line);
        }
    }

    /// Seals with an `end` frame and cuts what no reader has taken; `false` when another terminal
    /// frame came first.
    fn seal_end(&mut self, id: TaskId, reason: FinishReason, sentence: &'static str) -> bool {
        self.remember_left(id);
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        let (admitted, facts) = (&task.admitted, task.lease.as_ref().map(|lease| &*lease.facts));
        let sealed = task.log.seal(true, |progress| Epilogue {
            narration: Some(story::event("end", sentence.into())),
            terminal: TaskEvent::End(Box::new(receipt::end(
                reason,
                admitted,
                facts,
                progress,
                None,
                Instant::now(),
            ))),
        });
        if sealed.is_ok() {
            task.finish_reason = Some(reason);
            task.usage.tokens_out = task.log.progress().generated;
        }
        sealed.is_ok()
    }

    fn seal_error(&mut self, id: TaskId, body: ErrorBody) {
        self.remember_left(id);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let body = body.with_correlation(task.correlation.clone());
        if task
            .log
            .seal(false, |_| TaskEvent::Error(Box::new(body.clone())).into())
            .is_ok()
        {
            task.error = Some(body);
        }
    }

    /// The books after the terminal frame: state, queue, run, retention.
    fn conclude(&mut self, id: TaskId, event: Event) {
        self.queue.remove(&id);
        self.lines.leave(&id);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        match step(task.state, event) {
            Ok(transition) => task.state = transition.to,
            Err(rejected) => {
                tracing::error!(%rejected, task_id = %id, "a terminal frame without its transition");
            }
        }
        if let Some(run) = task.lease.as_ref().and_then(|lease| lease.run.as_ref()) {
            run.abort();
        }
        self.note_edge(id);
        let now = Instant::now();
        self.settle(&id, now);
        self.tasks.retire(id, now);
        self.dirty = true;
    }
}

fn observation(end: &EndEvent, finish: &Finish, facts: &RunFacts) -> Observation {
    let whole = || {
        Instant::now()
            .saturating_duration_since(facts.leased_at)
            .as_millis() as u64
    };
    Observation {
        tokens_in: finish.tokens_in.saturating_sub(finish.cached_tokens.unwrap_or(0)),
        tokens_out: finish.tokens_out,
        first_token_ms: match &finish.result {
            Some(_) => whole(),
            None => end.first_token_ms.unwrap_or(0),
        },
        decode_ms: end.decode_time_ms,
    }
}
