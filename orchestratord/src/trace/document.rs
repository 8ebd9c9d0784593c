//! The form of a trace: one JSON document, media type `application/json`.

use std::io;

use api_types::artifact::ArtifactTag;
use api_types::task::Timings;
use api_types::{
    CorrelationId, EngineKind, FinishReason, ModelId, PoolId, ReplicaId, TaskEvent, TaskId, TaskReceipt,
};
use orchestrator_core::policy::DecisionRecord;
use serde::Serialize;
use serde_json::value::RawValue;

use super::output::Shown;
use crate::artifacts::Artifacts;
use crate::receipt::RunFacts;

/// Of the form below; fields may be added without a new one.
pub(super) const SCHEMA: u32 = 1;

/// A trace.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    pub(super) schema: u32,
    pub(super) task_id: TaskId,
    pub(super) correlation_id: &'a CorrelationId,
    pub(super) identity: &'a str,
    /// By the wall clock, for people.
    pub(super) admitted_unix_ms: u64,
    /// By the wall clock, for people.
    pub(super) ended_unix_ms: u64,
    /// What was asked, its texts by the policy.
    pub(super) request: &'a RawValue,
    /// The sampling seed in effect.
    pub(super) seed: u32,
    /// What was promised.
    pub(super) receipt: &'a TaskReceipt,
    /// The last decision about it; with its input, unless that is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<DecisionRecord>,
    /// Times it was given a slot.
    pub(super) attempts: u32,
    /// How often it was taken up after a crash of the daemon.
    pub(super) epoch: u32,
    /// Where and with what it ran last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<Run<'a>>,
    pub(super) timings: Timings,
    /// What came out.
    pub(super) output: Shown<'a>,
    /// Whether some of that was withheld from its readers (a cancel).
    pub(super) cut: bool,
    /// `end` or `error`, as its readers got it, without the name of this document.
    pub(super) terminal: &'a TaskEvent,
}

/// Where and with what a task ran.
#[derive(Debug, Serialize)]
pub(super) struct Run<'a> {
    pool_id: &'a PoolId,
    replica_id: &'a ReplicaId,
    generation: u64,
    engine: EngineKind,
    engine_version: Option<&'a str>,
    engine_digest: Option<&'a str>,
    model_id: &'a ModelId,
    model_digest: Option<&'a str>,
}

impl<'a> Run<'a> {
    pub(super) fn of(facts: &'a RunFacts) -> Self {
        Self {
            pool_id: &facts.pool_id,
            replica_id: &facts.replica_id,
            generation: facts.generation,
            engine: facts.engine,
            engine_version: facts.engine_version.as_deref(),
            engine_digest: facts.engine_digest.as_deref(),
            model_id: &facts.model_id,
            model_digest: facts.model_digest.as_deref(),
        }
    }
}

impl Document<'_> {
    /// Its bytes. Without the texts where it would be larger than an artifact may be or where they hold the daemon's
    /// own token; `None` when that does not help, which is told and counted.
    pub(super) fn within(self, keeper: &Artifacts) -> Option<Vec<u8>> {
        let most = usize::try_from(keeper.options().limits.max_artifact_bytes).unwrap_or(usize::MAX);
        let fits = |bytes: &Vec<u8>| !keeper.holds_secret(bytes);
        if let Some(bytes) = self.bytes(most).filter(fits) {
            return Some(bytes);
        }
        let without_result = without_result(self.terminal);
        let mut reduced = self;
        reduced.output.parts = None;
        reduced.output.left_out = true;
        reduced.terminal = &without_result;
        let Some(bytes) = reduced.bytes(most) else {
            keeper.missed(
                "size",
                &"even without its texts the trace is larger than an artifact may be",
            );
            return None;
        };
        if !fits(&bytes) {
            keeper.missed("secret", &"the trace would hold the daemon's token");
            return None;
        }
        Some(bytes)
    }

    /// `None` when they are more than `most`.
    fn bytes(&self, most: usize) -> Option<Vec<u8>> {
        let mut bounded = Bounded {
            bytes: Vec::with_capacity(4096),
            most,
        };
        serde_json::to_writer(&mut bounded, self).ok()?;
        Some(bounded.bytes)
    }
}

fn without_result(terminal: &TaskEvent) -> TaskEvent {
    let mut terminal = terminal.clone();
    if let TaskEvent::End(end) = &mut terminal {
        end.result = None;
    }
    terminal
}

/// Takes no more than it may.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Words to find a trace by: `task:<id>`, and `outcome:stop` … `outcome:error`.
pub(super) fn tags(task: TaskId, terminal: &TaskEvent) -> Vec<ArtifactTag> {
    let outcome = match terminal {
        TaskEvent::End(end) => match end.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Canceled => "canceled",
            FinishReason::Deadline => "deadline",
        },
        _ => "error",
    };
    let texts = [format!("task:{task}"), format!("outcome:{outcome}")];
    // Ids and the words above are made of what tags are made of.
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
