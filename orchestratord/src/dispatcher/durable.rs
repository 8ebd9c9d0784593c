//! What makes tasks survive: every admission is answered after its record is on the disk, every
//! edge of a life is recorded (ORCH-3710, ORCH-3713). Owns the journal's handle and the answers that
//! wait for it; nothing else of the daemon knows the journal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_types::{ErrorBody, ErrorCode, TaskId, TaskReceipt};
use config_schema::Interrupted;
use task_journal::{
    AdmissionRecord, Boot, Done, EndRecord, Fingerprint, Journal, LifeRecord, NotCommitted, Op, PromptLength,
    RunRecord, Transcripts,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Dispatcher;
use super::handle::{Admission, Admitted, PromptTokens};
use super::tasks::Task;
use crate::receipt::{self, RunFacts};
use crate::signals::{Signal, Signals};
use crate::task_log::TaskLog;

/// The journal as the dispatcher uses it; without one nothing survives and answers do not wait.
#[derive(Debug)]
pub struct Durable {
    journal: Option<Arc<Journal>>,
    transcripts: Option<Arc<Transcripts>>,
    policy: Policy,
    boot: Boot,
    /// Answers that wait for a commit, oldest first.
    waiting: VecDeque<Waiting>,
}

/// What the configuration says about survival.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Longest wait for a commit.
    pub max_lag: Duration,
    /// Whether readers get only what is on the disk.
    pub strict: bool,
    /// What becomes of interrupted tasks.
    pub interrupted: Interrupted,
}

/// An answer that waits for a commit: the writer and the clock race for it.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    answer: Arc<Answer>,
}

#[derive(Debug)]
struct Answer {
    task: TaskId,
    /// Whether the task is new: it is taken back when its record does not make it.
    admits: bool,
    reply: Mutex<Option<oneshot::Sender<Admitted>>>,
}

impl Answer {
    /// Gives the answer unless it was given.
    fn give(&self, admitted: Admitted) -> bool {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A caller that no longer waits is not an error.
        reply.map(|reply| drop(reply.send(admitted))).is_some()
    }

    fn is_given(&self) -> bool {
        self.reply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }
}

impl Durable {
    /// Over a journal.
    #[must_use]
    pub fn new(journal: Option<Arc<Journal>>, transcripts: Option<Arc<Transcripts>>, policy: Policy) -> Self {
        Self {
            journal,
            transcripts,
            policy,
            boot: Boot::current(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether tasks survive.
    #[must_use]
    pub(super) const fn is_on(&self) -> bool {
        self.journal.is_some()
    }

    /// Whether running tasks go on after a restart.
    pub(super) fn takes_up(&self) -> bool {
        self.is_on() && self.policy.interrupted != Interrupted::Interrupt
    }

    pub(super) const fn interrupted(&self) -> Interrupted {
        self.policy.interrupted
    }

    /// Lets a task's log write its transcript.
    pub(super) fn record(&self, id: TaskId, log: &TaskLog) {
        if let Some(transcripts) = &self.transcripts {
            log.record_with(transcripts.recorder(id, log.epoch()), self.policy.strict);
        }
    }

    pub(super) const fn boot(&self) -> Boot {
        self.boot
    }

    pub(super) fn note(&self, op: impl FnOnce() -> Op) {
        if let Some(journal) = &self.journal {
            journal.note(op());
        }
    }

    /// Whether the oldest answer has waited too long.
    fn is_behind(&self, now: Instant) -> bool {
        let oldest = self.waiting.iter().find(|waiting| !waiting.answer.is_given());
        oldest.is_some_and(|waiting| now.saturating_duration_since(waiting.since) >= self.policy.max_lag)
    }

    fn take_overdue(&mut self, now: Instant) -> Vec<Arc<Answer>> {
        let mut overdue = Vec::new();
        while let Some(oldest) = self.waiting.front() {
            let late = now.saturating_duration_since(oldest.since) >= self.policy.max_lag;
            if !late && !oldest.answer.is_given() {
                break;
            }
            overdue.extend(self.waiting.pop_front().map(|waiting| waiting.answer));
        }
        overdue.retain(|answer| !answer.is_given());
        overdue
    }

    fn forget_given(&mut self) {
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.answer.is_given())
        {
            self.waiting.pop_front();
        }
    }
}

impl Dispatcher {
    /// Admits, and answers once the task would survive (ORCH-3710).
    pub(super) fn admit_and_answer(&mut self, admission: Admission, reply: oneshot::Sender<Admitted>) {
        let mut admission = admission;
        let in_flight = admission.in_flight.take();
        let now = Instant::now();
        self.durable.forget_given();
        if self.durable.is_on() && self.durable.is_behind(now) {
            let refused = self.refused(&admission, not_committed(NotCommitted::Behind));
            _ = reply.send(refused);
            return;
        }
        let admitted = self.admit(admission);
        let (Admitted::Receipt(receipt), Some(journal)) = (&admitted, self.durable.journal.clone()) else {
            _ = reply.send(admitted);
            return;
        };
        let receipt = receipt.clone();
        let id = receipt.task_id;
        let Some(op) = self.admission_op(id, &receipt) else {
            let body = ErrorBody::new(ErrorCode::Internal, "the task cannot be recorded");
            _ = reply.send(Admitted::Refused(Box::new(body)));
            self.withdraw(id, NotCommitted::Failed);
            return;
        };
        let answer = Arc::new(Answer {
            task: id,
            admits: matches!(op, Op::Admit(..)),
            reply: Mutex::new(Some(reply)),
        });
        self.durable.waiting.push_back(Waiting {
            since: now,
            answer: Arc::clone(&answer),
        });
        journal.write(op, answered(answer, receipt, self.signals.clone(), in_flight));
    }

    /// The record of a new task; a barrier behind the record of a known one. `None` when it cannot be JSON.
    fn admission_op(&mut self, id: TaskId, receipt: &TaskReceipt) -> Option<Op> {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.recorded) else {
            return Some(Op::Barrier);
        };
        task.recorded = true;
        self.durable.record(id, &task.log);
        let seq = self.queue.get(&id).map_or(0, |(ticket, _)| ticket.seq);
        let admission = AdmissionRecord {
            seq,
            priority: task.priority(),
            request: serde_json::value::to_raw_value(&task.request).ok()?,
            fingerprint: Fingerprint(task.fingerprint),
            prompt: length(task.prompt_tokens),
            total: length(task.total_tokens),
            correlation: task.correlation.clone(),
            identity: task.identity.clone(),
            receipt: receipt.clone(),
        };
        let life = life(task, self.durable.boot());
        Some(Op::Admit(id, Box::new(admission), Box::new(life)))
    }

    /// Records where a task is now.
    pub(super) fn note_edge(&self, id: TaskId) {
        let Some(task) = self.tasks.get(&id).filter(|task| task.recorded) else {
            return;
        };
        let boot = self.durable.boot();
        self.durable.note(|| Op::Edge(id, Box::new(life(task, boot))));
    }

    /// Ended tasks whose retention is over leave the journal too.
    pub(super) fn note_forgotten(&mut self) {
        for id in self.tasks.take_forgotten() {
            self.durable.note(|| Op::Forget(id));
            if let Some(transcripts) = &self.durable.transcripts {
                transcripts.forget(&id);
            }
        }
    }

    /// Refuses what has waited for the disk for too long (ORCH-3713).
    pub(super) fn refuse_overdue(&mut self, now: Instant) {
        for answer in self.durable.take_overdue(now) {
            let body = not_committed(NotCommitted::Behind);
            if answer.give(Admitted::Refused(Box::new(body))) && answer.admits {
                self.withdraw(answer.task, NotCommitted::Behind);
            }
        }
    }

    /// Takes an admission back that was answered with an error: the task ends, and nothing of it is kept once its slot is
    /// free.
    pub(super) fn withdraw(&mut self, id: TaskId, reason: NotCommitted) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.withdrawn = true;
        drop(task.log.take_trace());
        let over = task.state.is_terminal();
        self.durable.note(|| Op::Forget(id));
        if !over {
            self.fail(id, not_committed(reason));
        }
        self.drop_withdrawn(id);
    }

    /// Forgets a task that was taken back, unless it still has a slot: another attempt may come with its id.
    pub(super) fn drop_withdrawn(&mut self, id: TaskId) {
        let gone = |task: &Task| task.withdrawn && task.lease.as_ref().is_none_or(|lease| !lease.held);
        if self.tasks.get(&id).is_some_and(gone) {
            self.tasks.remove(&id);
        }
    }
}

const fn length(known: PromptTokens) -> PromptLength {
    match known {
        PromptTokens::AtMost(tokens) => PromptLength::AtMost(tokens),
        PromptTokens::Exactly(tokens) => PromptLength::Exactly(tokens),
        PromptTokens::Unbounded => PromptLength::Unbounded,
    }
}

/// Where a task is in its life.
pub(super) fn life(task: &Task, boot: Boot) -> LifeRecord {
    let now = Instant::now();
    LifeRecord {
        state: task.state,
        epoch: task.log.epoch(),
        attempts: task.attempts,
        kept: task.log.kept(),
        run: task.facts().map(run_record).or_else(|| task.last_run.clone()),
        elapsed_ms: now.saturating_duration_since(task.admitted.at).as_millis() as u64,
        at: boot.now(),
        end: task.log.terminal().map(|event| EndRecord {
            event,
            cut: task.log.is_cut(),
            usage: task.usage,
            timings: receipt::timings(&task.admitted, task.facts(), &task.log.progress(), now),
        }),
    }
}

pub(super) fn run_record(facts: &RunFacts) -> RunRecord {
    RunRecord {
        pool_id: facts.pool_id.clone(),
        replica_id: facts.replica_id.clone(),
        engine: facts.engine,
        engine_version: facts.engine_version.clone(),
        engine_digest: facts.engine_digest.clone(),
        model_id: facts.model_id.clone(),
        model_digest: facts.model_digest.clone(),
    }
}

/// Answers a client from the writer's thread.
fn answered(
    answer: Arc<Answer>,
    receipt: TaskReceipt,
    signals: Signals,
    in_flight: Option<task_journal::InFlight>,
) -> Done {
    Box::new(move |outcome| {
        // Before the answer: what comes next from this client is another request.
        drop(in_flight);
        match outcome {
            Ok(()) => _ = answer.give(Admitted::Receipt(receipt)),
            Err(reason) => {
                let body = not_committed(reason);
                if answer.give(Admitted::Refused(Box::new(body))) && answer.admits {
                    signals.send(Signal::NotCommitted(answer.task, reason));
                }
            }
        }
    })
}

/// The client's error when a task could not be made durable.
pub(super) fn not_committed(reason: NotCommitted) -> ErrorBody {
    let (label, hint) = match reason {
        NotCommitted::Failed => (
            "journal_failed",
            "the orchestrator stops; look at its log and its disk",
        ),
        NotCommitted::Behind => ("journal_behind", "its disk is slow or overloaded; try again"),
        NotCommitted::DiskFull => (
            "journal_disk_full",
            "free room on the disk of the orchestrator's state directory",
        ),
    };
    let mut body = ErrorBody::new(
        ErrorCode::PoolUnavailable,
        format!("{reason}: the task is not accepted"),
    )
    .with_reason(label)
    .with_hint(hint);
    body.retriable = true;
    body
}
