//! What the daemon narrates (ORCH-3490): one line for each thing that matters to an operator, in plain
//! English. Emits log lines, decides nothing.

use std::time::Duration;

use api_types::operation::{OperationPhase, OperationState, OperationStatus};
use api_types::pool::ReplicaState;
use api_types::{EngineKind, ModelId, ModelRef, PoolId, ReplicaId};
use narration_core::Narration;

use crate::engine::probe::EngineFacts;
use crate::gpu::GpuState;
use crate::replica::ReplicaOptions;
use crate::replica::machine::Status;

/// Who speaks.
pub const ACTOR: &str = "pool-managerd";

/// The storyteller of one replica.
#[derive(Debug, Clone)]
pub struct ReplicaStory {
    pool: PoolId,
    replica: ReplicaId,
    engine: EngineKind,
}

impl ReplicaStory {
    /// Tells of this replica.
    #[must_use]
    pub fn of(options: &ReplicaOptions) -> Self {
        Self {
            pool: options.pool.clone(),
            replica: options.id.clone(),
            engine: options.engine_kind,
        }
    }

    /// Tells what has changed; `took` is the time since the running engine's start.
    pub fn tell(&self, model: Option<&ModelId>, before: &Status, after: &Status, took: Option<Duration>) {
        let same = (before.state, before.generation) == (after.state, after.generation);
        if same && before.unready == after.unready {
            return;
        }
        let Some((action, human)) = scene(after, took) else {
            return;
        };
        let line = self.line(action, human, model, after.facts.as_ref());
        match after.state {
            ReplicaState::Failed => line.error().emit(),
            ReplicaState::Backoff | ReplicaState::Preflight => line.warning().emit(),
            _ => line.emit(),
        }
        self.detail(after);
    }

    fn line<'a>(
        &'a self,
        action: &'static str,
        human: String,
        model: Option<&'a ModelId>,
        facts: Option<&'a EngineFacts>,
    ) -> Narration<'a> {
        Narration::new(ACTOR, action, &self.pool, human)
            .pool_id(&self.pool)
            .replica_id(&self.replica)
            .engine(&self.engine)
            .model_id(model)
            .engine_version(facts.and_then(|facts| facts.version.as_ref()))
    }

    /// Tells that an engine of an earlier run of the daemon goes on.
    pub fn taken_over(&self, model: Option<&ModelId>) {
        let human = "The engine of the daemon's earlier run is taken over".to_owned();
        self.line("adopt", human, model, None).emit();
    }

    /// What does not fit into one line of narration.
    fn detail(&self, status: &Status) {
        let trouble = matches!(
            status.state,
            ReplicaState::Failed | ReplicaState::Backoff | ReplicaState::Preflight
        );
        if let (true, Some(why)) = (trouble, &status.unready) {
            tracing::warn!(
                pool_id = %self.pool,
                replica_id = %self.replica,
                generation = status.generation,
                restarts = status.restarts,
                cause = crate::metrics::cause_name(why.cause),
                hint = why.hint,
                last_error = status.last_error,
                "the replica is not ready"
            );
        }
    }
}

/// Action and sentence for a state; `None` for what needs no telling.
fn scene(status: &Status, took: Option<Duration>) -> Option<(&'static str, String)> {
    let after = after(took);
    Some(match status.state {
        ReplicaState::Preflight => ("wait", format!("No engine is started: {}", reason(status))),
        ReplicaState::Starting if status.restarts > 0 => {
            ("restart", "The engine is started again".to_owned())
        }
        ReplicaState::Starting => ("start", "The engine is started".to_owned()),
        ReplicaState::Loading => ("load", format!("The engine loads its model{after}")),
        ReplicaState::Ready => ("ready", ready(status, &after)),
        ReplicaState::Draining => ("drain", "No new work is taken".to_owned()),
        ReplicaState::Backoff => (
            "backoff",
            format!("The engine pauses before its next start: {}", reason(status)),
        ),
        ReplicaState::Stopped => ("stop", "The engine has ended on purpose".to_owned()),
        ReplicaState::Failed => ("fail", format!("The engine is given up: {}", reason(status))),
    })
}

fn reason(status: &Status) -> &str {
    status.unready.as_ref().map_or("", |why| &why.hint)
}

/// Nothing is said of an engine that an earlier run of the daemon has started.
fn after(took: Option<Duration>) -> String {
    let told = took.map(|took| format!(", {:.1} s after its start", took.as_secs_f64()));
    told.unwrap_or_default()
}

fn ready(status: &Status, after: &str) -> String {
    let Some(EngineFacts {
        slots, ctx_per_slot, ..
    }) = status.facts
    else {
        return "The engine is ready".to_owned();
    };
    format!("The engine is ready with {slots} slots of {ctx_per_slot} tokens{after}")
}

/// Tells that the daemon runs.
pub fn started(pools: usize) {
    let human = format!("Pools to take care of: {pools}");
    Narration::new(ACTOR, "run", &"node", human).emit();
}

/// Tells that the daemon has been asked to stop.
pub fn stopping(keeps_engines: bool) {
    let human = if keeps_engines {
        "Leaves; its engines go on serving"
    } else {
        "Ends its engines and leaves"
    };
    Narration::new(ACTOR, "shut-down", &"node", human).emit();
}

/// Tells that something of an earlier run's engines still runs.
pub fn left_behind(trouble: &str) {
    let human = "Something of an earlier engine cannot be ended";
    Narration::new(ACTOR, "sweep", &"node", human).error().emit();
    tracing::error!(trouble, "an engine of an earlier run is left");
}

/// Tells that what a pool shall serve is not known any more.
pub fn rollout_lost(pool: &PoolId, error: &std::io::Error) {
    let human = "What the pool last served is not readable; its configuration counts";
    Narration::new(ACTOR, "resume", pool, human)
        .pool_id(pool)
        .error()
        .emit();
    tracing::error!(pool_id = %pool, %error, "the record of the pool is not readable");
}

/// Tells how an operation gets on.
pub fn rollout(pool: &PoolId, before: Option<OperationStatus>, after: Option<OperationStatus>) {
    let Some(after) = after.filter(|after| before.as_ref() != Some(after)) else {
        return;
    };
    let fresh = before.is_none_or(|before| before.operation_id != after.operation_id);
    let (action, human) = act(&after, fresh);
    let line = Narration::new(ACTOR, action, pool, human).pool_id(pool);
    if after.state == OperationState::Failed {
        line.warning().emit();
    } else {
        line.emit();
    }
    if let Some(reason) = &after.reason {
        tracing::info!(pool_id = %pool, operation_id = %after.operation_id, reason, "why the operation goes this way");
    }
}

/// Action and sentence for an operation.
fn act(operation: &OperationStatus, fresh: bool) -> (&'static str, String) {
    let action = operation.kind.as_str();
    let human = match operation.state {
        OperationState::Succeeded => format!("The {action} is done"),
        OperationState::Failed => format!("The {action} has failed; the pool is what it was"),
        OperationState::Running if fresh => format!("A {action} begins"),
        OperationState::Running => match operation.phase {
            OperationPhase::Steady | OperationPhase::Checking => format!("The {action} checks the model"),
            OperationPhase::Loading => "The model is to be loaded".to_owned(),
            OperationPhase::Beside => "The new model loads beside the old one".to_owned(),
            OperationPhase::Draining => "No new work is taken; running tasks finish".to_owned(),
            OperationPhase::Stopping => "The engines end".to_owned(),
            OperationPhase::Swapping => "The new model loads in the old one's place".to_owned(),
            OperationPhase::Clearing => "The new model has failed; its engines end".to_owned(),
            OperationPhase::Restoring => "The old model is loaded again".to_owned(),
        },
    };
    (action, human)
}

/// Tells that a model is fetched. The query of an address may be a credential, and is not told.
pub fn fetching(reference: &ModelRef, id: &ModelId, bytes: u64) {
    let reference = reference.without_query();
    let human = "A model is fetched into the catalog";
    Narration::new(ACTOR, "fetch", id, human)
        .model_id(Some(id))
        .emit();
    tracing::info!(%reference, bytes, "a model is fetched");
}

/// Tells that a model is here.
pub fn fetched(reference: &ModelRef, id: &ModelId) {
    let reference = reference.without_query();
    let human = "The model is whole and in the catalog";
    Narration::new(ACTOR, "fetch", id, human)
        .model_id(Some(id))
        .emit();
    tracing::info!(%reference, "a model has been fetched");
}

/// Tells why a model is not here.
pub fn not_fetched(reference: &ModelRef, why: &str) {
    let reference = reference.without_query();
    let human = "A model could not be fetched; it is tried again";
    Narration::new(ACTOR, "fetch", &"model", human).warning().emit();
    tracing::warn!(%reference, why, "a model could not be fetched");
}

/// Tells that an image is being fetched.
pub fn pulling(image: &str) {
    let human = "The engine's image is fetched from its registry";
    Narration::new(ACTOR, "pull", &"image", human).emit();
    tracing::info!(image, "an image is pulled");
}

/// Tells that a registry could not be asked, and what is here is used.
pub fn not_pulled(error: &container_runtime::Error) {
    let human = "The registry does not answer; the image that is here is used";
    Narration::new(ACTOR, "pull", &"image", human).warning().emit();
    tracing::warn!(%error, hint = error.hint(), "an image could not be pulled");
}

/// Tells what is not as it should be about containers.
pub fn container_warning(warning: &str) {
    tracing::warn!(warning, "containers work, but not as they should");
}

/// Tells that a container of an earlier run is gone.
pub fn swept(name: &str) {
    let human = "A container of an earlier engine is removed";
    Narration::new(ACTOR, "sweep", &"container", human).emit();
    tracing::info!(name, "a container was removed");
}

/// Tells when the GPUs come and go.
pub fn gpus(before: &GpuState, after: &GpuState) {
    match (before, after) {
        (Err(_), Ok(inventory)) => {
            let human = format!("NVML answers; GPUs found: {}", inventory.gpus.len());
            Narration::new(ACTOR, "find", &"gpus", human).emit();
        }
        (Ok(had), Ok(has)) if had.gpus.len() != has.gpus.len() || had.faults != has.faults => {
            let human = format!("GPUs that answer: {}, before: {}", has.gpus.len(), had.gpus.len());
            Narration::new(ACTOR, "recount", &"gpus", human).warning().emit();
            for fault in &has.faults {
                tracing::warn!(index = fault.index, error = fault.error, "a GPU does not answer");
            }
        }
        (had, Err(error)) if had.as_ref().err() != Some(error) => {
            let human = format!("No GPU can be seen: {error}");
            Narration::new(ACTOR, "lose", &"gpus", human).warning().emit();
            tracing::warn!(%error, hint = error.hint(), "NVML does not answer");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::RestartPolicy;
    use crate::replica::machine::{LifePolicy, Machine};
    use crate::trouble::Unready;
    use api_types::pool::UnreadyCause;
    use narration_core::{MAX_HUMAN_CHARS, Recorder};
    use tokio::time::Instant;

    fn story() -> ReplicaStory {
        ReplicaStory {
            pool: PoolId::new("p").unwrap(),
            replica: ReplicaId::new("r0").unwrap(),
            engine: EngineKind::Llamacpp,
        }
    }

    fn status(state: ReplicaState, unready: Option<Unready>) -> Status {
        let second = Duration::from_secs(1);
        let restart = RestartPolicy {
            initial: second,
            max: second,
            budget: 1,
            window: second,
        };
        let policy = LifePolicy {
            load_deadline: second,
            restart,
        };
        Status {
            state,
            unready,
            ..Machine::new(policy, 0).status(Instant::now())
        }
    }

    #[test]
    fn only_a_start_that_was_seen_is_counted_from() {
        let ready = status(ReplicaState::Ready, None);
        let human = |took| scene(&ready, took).unwrap().1;
        assert!(!human(None).contains("after its start"));
        let load = status(ReplicaState::Loading, None);
        let told = |took| scene(&load, took).unwrap().1;
        assert_eq!(told(None), "The engine loads its model");
        let took = Some(Duration::from_millis(1_540));
        assert_eq!(told(took), "The engine loads its model, 1.5 s after its start");
    }

    /// ORCH-3490.
    #[test]
    fn each_change_is_told_once_and_short() {
        let recorder = Recorder::new();
        let _listening = recorder.listen();
        let why = Unready::of(UnreadyCause::VramOom);
        let (ready, backoff) = (
            status(ReplicaState::Ready, None),
            status(ReplicaState::Backoff, Some(why)),
        );
        story().tell(None, &ready, &backoff, None);
        story().tell(None, &backoff, &backoff, None);
        let lines = recorder.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (lines[0].action(), lines[0].field("replica_id")),
            ("backoff", "r0")
        );
        assert!(lines[0].human().chars().count() <= MAX_HUMAN_CHARS);
    }
}
