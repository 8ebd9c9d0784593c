//! The lasting record of one task, a `trace` artifact: what was asked (as far as the configuration allows), what was
//! decided and promised, what came out, how it ended. Gathered while the task lives, written when its log is sealed.
//!
//! Owns the record's form; where it is kept is [`crate::artifacts`]'s to know.

mod document;
mod input;
mod output;

use std::fmt;
use std::sync::Arc;

use adapter_api::TokenBatch;
use api_types::{CorrelationId, TaskEvent, TaskId, TaskReceipt, TaskRequest, TokenKind, TranscriptRef};
use narration_core::wall;
use orchestrator_core::policy::DecisionRecord;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::artifacts::Artifacts;
use crate::receipt::{self, Admitted, RunFacts};
use crate::task_log::Progress;
use document::{Document, Run, SCHEMA};
use output::Output;

/// Makes the record of a decision when it is needed: most of it is the snapshot of the pools.
type Decision = Box<dyn FnOnce() -> DecisionRecord + Send>;

/// What is known of a task from its admission on.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The task.
    pub task_id: TaskId,
    /// The request's correlation id.
    pub correlation: CorrelationId,
    /// Who asked, as logged.
    pub identity: String,
    /// The answer the client got.
    pub receipt: TaskReceipt,
    /// Admission facts.
    pub admitted: Arc<Admitted>,
}

/// How a task's log was sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    /// Whether tokens that no reader had taken were withheld.
    pub cut: bool,
    /// How often the task was taken up after a crash.
    pub epoch: u32,
    /// What it has produced.
    pub progress: &'a Progress,
}

/// The record of one task in the making.
pub struct Trace {
    keeper: Arc<Artifacts>,
    input: Box<RawValue>,
    output: Output,
    admitted_unix_ms: u64,
    facts: Option<Facts>,
    run: Option<Arc<RunFacts>>,
    attempts: u32,
    decision: Option<Decision>,
}

impl fmt::Debug for Trace {
    /// Nothing of what people wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = self.facts.as_ref().map(|facts| facts.task_id);
        f.debug_struct("Trace")
            .field("task", &task)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Of a request as it came in.
    pub(crate) fn begin(keeper: Arc<Artifacts>, request: &TaskRequest) -> Self {
        let options = keeper.options();
        let most = usize::try_from(options.limits.max_artifact_bytes).unwrap_or(usize::MAX);
        Self {
            input: input::redacted(request, options.trace_input),
            output: Output::new(options.trace_output, most),
            admitted_unix_ms: wall::unix_ms(),
            facts: None,
            run: None,
            attempts: 0,
            decision: None,
            keeper,
        }
    }

    /// The task was admitted.
    pub(crate) fn admitted(&mut self, facts: Facts) {
        self.facts = Some(facts);
    }

    /// The task was given a slot.
    pub(crate) fn placed(&mut self, run: Arc<RunFacts>, attempts: u32) {
        self.run = Some(run);
        self.attempts = attempts;
    }

    /// The policy decided about the task.
    pub(crate) fn decided(&mut self, decision: Decision) {
        self.decision = Some(decision);
    }

    /// The engine wrote.
    pub(crate) fn batch(&mut self, batch: &TokenBatch) {
        for (kind, text) in batch.tokens_with_kind() {
            self.output.say(kind, text);
        }
    }

    /// An earlier life of the task wrote.
    pub(crate) fn said(&mut self, tokens: &[(TokenKind, String)]) {
        for (kind, text) in tokens {
            self.output.say(*kind, text);
        }
    }

    /// Where it is kept.
    pub(crate) const fn keeper(&self) -> &Arc<Artifacts> {
        &self.keeper
    }

    /// Keeps the record and names it in the terminal event; without one the task ends all the same.
    pub(crate) fn close(self: Box<Self>, mut terminal: TaskEvent, ending: Ending<'_>) -> TaskEvent {
        let text_sha256 = self.output.sha256();
        let kept = self.keep(&terminal, ending);
        if let (TaskEvent::End(end), Some(artifact_id)) = (&mut terminal, kept) {
            end.transcript = Some(TranscriptRef {
                artifact_id,
                sha256: artifact_id.hex(),
                text_sha256,
            });
        }
        terminal
    }

    fn keep(mut self: Box<Self>, terminal: &TaskEvent, ending: Ending<'_>) -> Option<api_types::ArtifactId> {
        let facts = self.facts.take()?;
        let run = self.run.as_deref();
        let document = Document {
            schema: SCHEMA,
            task_id: facts.task_id,
            correlation_id: &facts.correlation,
            identity: &facts.identity,
            admitted_unix_ms: self.admitted_unix_ms,
            ended_unix_ms: wall::unix_ms(),
            request: &self.input,
            seed: facts.admitted.seed,
            receipt: &facts.receipt,
            decision: self.decision.take().map(|decision| decision()),
            attempts: self.attempts,
            epoch: ending.epoch,
            run: run.map(Run::of),
            timings: receipt::timings(&facts.admitted, run, ending.progress, Instant::now()),
            output: self.output.document(),
            cut: ending.cut,
            terminal,
        };
        let bytes = document.within(&self.keeper)?;
        self.keeper
            .keep_trace(document::tags(facts.task_id, terminal), &bytes)
    }
}
