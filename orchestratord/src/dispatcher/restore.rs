//! After a restart: what the journal holds becomes tasks again, each in its old place (ORCH-3711,
//! ORCH-3712).

use std::collections::HashMap;
use std::time::Duration;

use api_types::task::Usage;
use api_types::{Determinism, EngineKind, StartedEvent, TaskEvent, TaskId, TaskState, Workload};
use config_schema::Interrupted;
use narration_core::Narration;
use orchestrator_core::queue::Ticket;
use task_journal::{PromptLength, TaskRecord, Transcript};
use tokio::time::Instant;

use super::Dispatcher;
use super::admit::{Candidate, job_spec};
use super::end::MAX_ATTEMPTS;
use super::handle::{Admission, PromptTokens};
use super::tasks::{Task, outcome};
use crate::continuation::Continuation;
use crate::story::ACTOR;
use crate::task_log::{TakenUp, TaskLog};

/// A task of the journal that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("task {id} of the journal cannot be read by this version")]
pub struct Unreadable {
    id: TaskId,
    source: serde_json::Error,
}

impl Dispatcher {
    /// Takes up the tasks of the journal, in the order of their arrival. Called before
    /// [`Dispatcher::run`]; nobody may be served before the journal has committed their new epochs.
    ///
    /// # Errors
    /// [`Unreadable`]: nothing is dropped silently.
    pub fn restore(
        &mut self,
        mut records: Vec<TaskRecord>,
        mut transcripts: HashMap<TaskId, Transcript>,
    ) -> Result<(), Unreadable> {
        if records.is_empty() {
            return Ok(());
        }
        records.sort_unstable_by_key(|record| record.admission.seq);
        let now = Instant::now();
        let ages: Vec<Duration> = records.iter().map(|record| self.age(record)).collect();
        // The core counts from the oldest of them, so that waiting times go on.
        let oldest = ages.iter().max().copied().unwrap_or_default();
        self.origin = now.checked_sub(oldest).unwrap_or(now);
        let (mut waiting, mut ended) = (0_usize, 0_usize);
        for (record, age) in records.into_iter().zip(ages) {
            let said = transcripts.remove(&record.id).unwrap_or_default();
            self.queue.count_on_from(record.admission.seq);
            if self.restore_one(&record, said, age, now)? {
                ended += 1;
            } else {
                waiting += 1;
            }
        }
        self.dirty = true;
        let human = format!("Takes up {waiting} tasks after a restart and knows {ended} that ended.");
        Narration::new(ACTOR, "restore", &"journal", human).emit();
        Ok(())
    }

    fn age(&self, record: &TaskRecord) -> Duration {
        let life = &record.life;
        let down = self.durable.boot().now().since(&life.at);
        let down = if life.state.is_terminal() { 0 } else { down };
        Duration::from_millis(life.elapsed_ms.saturating_add(down))
    }

    /// Takes up one task; tells whether it had ended.
    fn restore_one(
        &mut self,
        record: &TaskRecord,
        said: Transcript,
        age: Duration,
        now: Instant,
    ) -> Result<bool, Unreadable> {
        let id = record.id;
        let unreadable = |source| Unreadable { id, source };
        let request = record.admission.request().map_err(unreadable)?;
        let prompt_tokens = length(record.admission.prompt);
        let artifacts = self.parts.artifacts.as_ref();
        let trace = artifacts.and_then(|artifacts| artifacts.trace(&request));
        let admission = Admission {
            request,
            prompt_tokens,
            total_tokens: length(record.admission.total),
            correlation: record.admission.correlation.clone(),
            identity: record.admission.identity.clone(),
            in_flight: None,
            trace,
        };
        let candidate = Candidate {
            id,
            spec: job_spec(&admission.request, prompt_tokens),
            demand: self.demand(&admission),
            admission,
            fingerprint: record.admission.fingerprint.0,
            now: now.checked_sub(age).unwrap_or(now),
        };
        let mut task = self.new_task(candidate, record.admission.receipt.clone());
        task.recorded = true;
        task.attempts = record.life.attempts;
        task.last_run = said.run.clone().or_else(|| record.life.run.clone());
        task.deadline = task
            .request
            .deadline_ms
            .map(|ms| now + Duration::from_millis(ms).saturating_sub(age));
        let ended = record.life.state.is_terminal() || said.end.is_some();
        let saved = Saved { record, said };
        if ended {
            self.restore_ended(id, task, &saved, now);
        } else {
            self.restore_waiting(id, task, &saved);
        }
        Ok(ended)
    }

    fn restore_ended(&mut self, id: TaskId, mut task: Task, saved: &Saved<'_>, now: Instant) {
        let life = &saved.record.life;
        task.log = TaskLog::taken_up(self.options.log, saved.shape(saved.last_epoch()));
        start_log(id, &task);
        task.log.preload(&saved.said.tokens, saved.said.generated);
        let written = life.end.as_ref().map(|end| (end.event.clone(), end.cut));
        if let Some((event, cut)) = written.or_else(|| saved.said.end.clone()) {
            (task.state, task.finish_reason, task.error) = outcome(event.clone());
            task.usage = life
                .end
                .as_ref()
                .map_or_else(|| usage(&event, saved), |end| end.usage);
            // A fresh log takes its last frame.
            let _first = task.log.seal(cut, |_| event.into());
        }
        task.ended_timings = life.end.as_ref().map(|end| end.timings);
        let ago = Duration::from_millis(self.durable.boot().now().since(&life.at));
        self.tasks.insert(id, task);
        if life.end.is_none() {
            self.note_edge(id);
        }
        self.tasks.retire(id, now.checked_sub(ago).unwrap_or(now));
    }

    /// A task that waited keeps its place; one that ran gets its old one back. Each is in its next epoch, whether the journal
    /// knows that it ran or not: a power cut can take the record of a run and its whole transcript, and ids that a client
    /// has of it must not come again with another text.
    fn restore_waiting(&mut self, id: TaskId, mut task: Task, saved: &Saved<'_>) {
        let ran = saved.record.life.state == TaskState::Running || !saved.said.tokens.is_empty();
        let shape = saved.shape(saved.last_epoch() + 1);
        let trace = task.log.take_trace();
        task.log = TaskLog::taken_up(self.options.log, shape);
        task.log.trace_with(trace);
        start_log(id, &task);
        task.log.preload(&saved.said.tokens, saved.said.generated);
        self.durable.record(id, &task.log);
        let next = if ran {
            self.next_run(&task, saved)
        } else {
            Ok(Continuation::Begin)
        };
        let ticket = Ticket {
            id,
            priority: saved.record.admission.priority,
            enqueued_at_ms: self.now_ms(task.admitted.at),
            seq: saved.record.admission.seq,
        };
        match next {
            Ok(continuation) => {
                if matches!(continuation, Continuation::GoOn { .. }) {
                    task.spec.needs.engine = task.last_run.as_ref().map(|run| run.engine);
                }
                task.continuation = continuation;
                let spec = task.spec.clone();
                self.tasks.insert(id, task);
                self.requeue(ticket, &spec, Instant::now());
                self.note_edge(id);
            }
            Err(why) => {
                self.tasks.insert(id, task);
                self.interrupt(id, why);
            }
        }
    }

    /// How an interrupted task goes on, or why it cannot.
    fn next_run(&self, task: &Task, saved: &Saved<'_>) -> Result<Continuation, &'static str> {
        let said = &saved.said;
        if said.tokens.is_empty() {
            return if task.attempts < MAX_ATTEMPTS {
                Ok(Continuation::Begin)
            } else {
                Err("it has been tried three times without a token")
            };
        }
        let strict = task.request.determinism == Determinism::Strict;
        match self.durable.interrupted() {
            Interrupted::Interrupt => Err("this installation ends interrupted tasks"),
            Interrupted::Resume if !strict => {
                let engine = task.last_run.as_ref().map(|run| run.engine);
                let can =
                    task.request.workload == Workload::Completion && engine == Some(EngineKind::Llamacpp);
                let go_on = || Continuation::GoOn {
                    text: said.text().into(),
                    generated: said
                        .generated
                        .max(u32::try_from(said.tokens.len()).unwrap_or(u32::MAX)),
                };
                can.then(go_on).ok_or("its engine cannot go on after a text")
            }
            Interrupted::Resume | Interrupted::Replay => Ok(Continuation::Replay {
                texts: said.tokens.iter().map(|(_, text)| text.clone()).collect(),
                on: task.last_run.clone(),
            }),
        }
    }
}

const fn length(recorded: PromptLength) -> PromptTokens {
    match recorded {
        PromptLength::AtMost(tokens) => PromptTokens::AtMost(tokens),
        PromptLength::Exactly(tokens) => PromptTokens::Exactly(tokens),
        PromptLength::Unbounded => PromptTokens::Unbounded,
    }
}

/// What the disk has of one task.
struct Saved<'a> {
    record: &'a TaskRecord,
    said: Transcript,
}

impl Saved<'_> {
    /// The last life that anybody can have seen.
    fn last_epoch(&self) -> u32 {
        self.record.life.epoch.max(self.said.epoch)
    }

    fn shape(&self, epoch: u32) -> TakenUp {
        let mut kept = self.record.life.kept.clone();
        kept.resize(epoch as usize, self.said.tokens.len() as u64);
        TakenUp { epoch, kept }
    }
}

fn usage(event: &TaskEvent, saved: &Saved<'_>) -> Usage {
    match event {
        TaskEvent::End(end) => Usage {
            tokens_in: end.tokens_in,
            tokens_out: end.tokens_out,
        },
        _ => Usage {
            tokens_in: 0,
            tokens_out: saved.said.generated,
        },
    }
}

/// The first frame, as it was when the task was admitted.
fn start_log(id: TaskId, task: &Task) {
    let receipt = &task.receipt;
    // A fresh log takes its first frame.
    let _room = task.log.start(&TaskEvent::Started(StartedEvent {
        task_id: id,
        queue_position: receipt.queue_position,
        predicted_start_ms: None,
        predicted_end_ms: None,
        pool_id: receipt.pool_id.clone(),
        model_ref: task.request.model_ref.clone(),
        seed: Some(task.admitted.seed),
        correlation_id: task.correlation.clone(),
    }));
}
