//! The terminal frame of a task: its reproducibility receipt, or its error with what is known
//! about where it ran.

use adapter_api::{Finish, FinishCause};
use adapter_host::Target;
use api_types::pool::PoolReport;
use api_types::task::Timings;
use api_types::{EndEvent, EngineKind, ErrorBody, ErrorCode, FinishReason, ModelId, PoolId, ReplicaId};
use tokio::time::Instant;

use crate::task_log::Progress;

/// Where and with what a task runs, fixed at dispatch.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The pool.
    pub pool_id: PoolId,
    /// The engine process.
    pub replica_id: ReplicaId,
    /// Which start of the replica.
    pub generation: u64,
    /// The engine.
    pub engine: EngineKind,
    /// Its build.
    pub engine_version: Option<String>,
    /// `sha256:…` of its binary.
    pub engine_digest: Option<String>,
    /// The model.
    pub model_id: ModelId,
    /// `sha256:…` of the model file.
    pub model_digest: Option<String>,
    /// Context per slot, tokens.
    pub ctx_max: u32,
    /// Base URL of the node's pool-managerd.
    pub node_address: String,
    /// When the slot was leased.
    pub leased_at: Instant,
}

impl RunFacts {
    /// Facts of a lease on `replica` of `pool`.
    #[must_use]
    pub fn of(pool: &PoolReport, replica: usize, node_address: &str, leased_at: Instant) -> Option<Self> {
        let replica = pool.replicas.get(replica)?;
        Some(Self {
            pool_id: pool.pool_id.clone(),
            replica_id: replica.replica_id.clone(),
            generation: replica.generation,
            engine: pool.engine,
            engine_version: replica.engine_version.clone(),
            engine_digest: pool.engine_digest.clone(),
            model_id: pool.model_id.clone(),
            model_digest: pool.model_digest.clone(),
            ctx_max: replica.ctx_per_slot.unwrap_or(pool.ctx_max),
            node_address: node_address.to_owned(),
            leased_at,
        })
    }

    /// The replica, for adapter-host.
    #[must_use]
    pub fn target(&self) -> Target {
        Target::new(self.pool_id.clone(), self.replica_id.clone())
    }
}

/// What the receipt needs besides facts and progress.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// When the task was admitted.
    pub at: Instant,
    /// The sampling seed in effect.
    pub seed: u32,
    /// The sampler profile asked for.
    pub sampler_profile_version: Option<String>,
}

/// How long things took, as far as they happened.
#[must_use]
pub fn timings(admitted: &Admitted, facts: Option<&RunFacts>, progress: &Progress, now: Instant) -> Timings {
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
    let leased = facts.map(|f| f.leased_at);
    Timings {
        queue_time_ms: Some(ms(admitted.at, leased.unwrap_or(now))),
        first_token_ms: leased.zip(progress.first_token_at).map(|(from, to)| ms(from, to)),
        decode_time_ms: progress
            .first_token_at
            .zip(progress.last_token_at)
            .map(|(from, to)| ms(from, to)),
    }
}

/// The `end` event.
#[must_use]
pub fn end(
    reason: FinishReason,
    admitted: &Admitted,
    facts: Option<&RunFacts>,
    progress: &Progress,
    finish: Option<&Finish>,
    now: Instant,
) -> EndEvent {
    let timings = timings(admitted, facts, progress, now);
    let decode_time_ms = timings.decode_time_ms.unwrap_or(0);
    EndEvent {
        finish_reason: reason,
        tokens_in: finish.map_or(0, |f| f.tokens_in),
        tokens_out: finish.map_or(progress.generated, |f| f.tokens_out),
        queue_time_ms: timings.queue_time_ms.unwrap_or(0),
        first_token_ms: timings.first_token_ms,
        decode_time_ms,
        decode_ms: decode_time_ms,
        engine: facts.map(|f| f.engine),
        engine_version: facts.and_then(|f| f.engine_version.clone()),
        engine_digest: facts.and_then(|f| f.engine_digest.clone()),
        model_id: facts.map(|f| f.model_id.clone()),
        model_digest: facts.and_then(|f| f.model_digest.clone()),
        sampler_profile_version: admitted.sampler_profile_version.clone(),
        seed: admitted.seed,
        pool_id: facts.map(|f| f.pool_id.clone()),
        replica_id: facts.map(|f| f.replica_id.clone()),
        kv_warmth: finish
            .and_then(|f| f.cached_tokens)
            .is_some_and(|cached| cached > 0),
        // The log names it when it is sealed.
        transcript: None,
        result: finish.and_then(|f| f.result.clone()),
    }
}

/// The reason of a terminal error that a restart caused.
const INTERRUPTED: &str = "interrupted";

/// Whether a terminal error is of an interrupted task ([`interrupted`]).
#[must_use]
pub fn is_interruption(body: &ErrorBody) -> bool {
    body.reason.as_deref() == Some(INTERRUPTED)
}

/// The terminal error of a task that was running when the daemon went down and could not be taken up
/// again; its text so far is kept.
#[must_use]
pub fn interrupted(why: &str) -> ErrorBody {
    let message = format!("the orchestrator was restarted while the task ran, and it cannot go on: {why}");
    let mut body = ErrorBody::new(ErrorCode::WorkerReset, message)
        .with_reason(INTERRUPTED)
        .with_hint("the text so far is kept; submit the task again under another id");
    body.retriable = true;
    body
}

/// The finish reason of an engine's own end.
#[must_use]
pub const fn reason_of(cause: FinishCause) -> FinishReason {
    match cause {
        FinishCause::Stop => FinishReason::Stop,
        FinishCause::Length => FinishReason::Length,
    }
}
