//! One bound engine process: its adapter, and what the host keeps about it. Lives as long as its generation is bound or
//! one of its streams runs.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use adapter_api::{Adapter, AdapterError, AdapterErrorKind, EngineProps, Health, Job};
use api_types::{EngineKind, TaskId};
use narration_core::Narration;
use tokio::sync::OnceCell;

use crate::breaker::{Breaker, BreakerState, Change, Pass, Resting, Verdict};
use crate::endpoint::EndpointSpec;
use crate::metrics::ReplicaMetrics;
use crate::registry::Target;

pub(crate) const ACTOR: &str = "adapter-host";

/// What the host knows about a replica, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSnapshot {
    /// The replica.
    pub target: Target,
    /// The generation bound.
    pub generation: u64,
    /// Its engine.
    pub engine: EngineKind,
    /// Whether it is asked.
    pub breaker: BreakerState,
    /// What the engine said about itself, once it was asked.
    pub props: Option<Arc<EngineProps>>,
}

pub(crate) struct Replica {
    pub(crate) target: Target,
    pub(crate) generation: u64,
    pub(crate) spec: EndpointSpec,
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) metrics: ReplicaMetrics,
    breaker: Arc<Breaker>,
    /// An engine process does not change: asked once.
    props: OnceCell<Arc<EngineProps>>,
}

impl Replica {
    pub(crate) fn new(
        target: Target,
        generation: u64,
        spec: EndpointSpec,
        adapter: Arc<dyn Adapter>,
        metrics: ReplicaMetrics,
        breaker: Arc<Breaker>,
    ) -> Self {
        Self {
            target,
            generation,
            spec,
            adapter,
            metrics,
            breaker,
            props: OnceCell::new(),
        }
    }

    pub(crate) fn snapshot(&self) -> ReplicaSnapshot {
        ReplicaSnapshot {
            target: self.target.clone(),
            generation: self.generation,
            engine: self.spec.engine,
            breaker: self.breaker.state(),
            props: self.props.get().cloned(),
        }
    }

    /// Several callers at once cause one call.
    pub(crate) async fn props(&self) -> Result<Arc<EngineProps>, AdapterError> {
        let ask = || async { self.adapter.props().await.map(Arc::new) };
        self.props.get_or_try_init(ask).await.cloned()
    }

    /// Leave for one generation. A probe asks for health first, so that no task is risked on an engine that is gone.
    pub(crate) async fn admit(&self, job: &Job) -> Result<Pass, AdapterError> {
        let pass = self.breaker.admit().map_err(resting)?;
        if !pass.is_probe() {
            return Ok(pass);
        }
        match probe(self.adapter.as_ref()).await {
            Ok(()) => Ok(pass),
            Err(error) => {
                self.failed(pass, &error, job.task_id);
                Err(error)
            }
        }
    }

    /// A generation failed, before its stream or in it.
    pub(crate) fn failed(&self, pass: Pass, error: &AdapterError, task: TaskId) {
        self.metrics.failures(error.kind).inc();
        self.tell("fail", what_failed(error.kind))
            .job_id(&task)
            .warning()
            .emit();
        self.settle(pass, verdict(error.kind));
    }

    pub(crate) fn settle(&self, pass: Pass, verdict: Verdict) {
        self.noted(pass.settle(verdict));
    }

    /// Counts and tells what a breaker did.
    pub(crate) fn noted(&self, change: Change) {
        match change {
            Change::None => {}
            Change::Closed => self.tell("resume", "the engine serves again after a rest").emit(),
            Change::Opened(rest) => {
                self.metrics.trips.inc();
                let human = format!(
                    "leaves the engine alone for {} after repeated failures",
                    seconds(rest)
                );
                self.tell("rest", human).warning().emit();
            }
        }
    }

    /// A narration line about this replica.
    pub(crate) fn tell<'a>(&'a self, action: &'static str, human: impl Into<Cow<'a, str>>) -> Narration<'a> {
        Narration::new(ACTOR, action, &self.target, human)
            .engine(&self.spec.engine)
            .pool_id(&self.target.pool)
            .replica_id(&self.target.replica)
    }
}

async fn probe(adapter: &dyn Adapter) -> Result<(), AdapterError> {
    match adapter.health().await? {
        Health::Ready => Ok(()),
        Health::Loading => Err(AdapterError::new(
            AdapterErrorKind::NotReady,
            "the engine is loading its model",
        )),
        Health::Unhealthy { detail } => Err(AdapterError::new(AdapterErrorKind::Unavailable, detail)),
    }
}

fn resting(Resting { retry_after }: Resting) -> AdapterError {
    let message = format!(
        "the engine is left alone after repeated failures, next try in {}",
        seconds(retry_after)
    );
    AdapterError {
        kind: AdapterErrorKind::Unavailable,
        message,
        retry_after_ms: Some(retry_after.as_millis().try_into().unwrap_or(u64::MAX)),
    }
}

/// A refusal is an answer: the engine works. Only a missing answer speaks against it.
const fn verdict(kind: AdapterErrorKind) -> Verdict {
    match kind {
        AdapterErrorKind::Rejected | AdapterErrorKind::Exhausted => Verdict::Well,
        AdapterErrorKind::NotReady
        | AdapterErrorKind::Unavailable
        | AdapterErrorKind::Timeout
        | AdapterErrorKind::Reset => Verdict::Fault,
        AdapterErrorKind::Protocol => Verdict::Unclear,
    }
}

/// In words of our own: the engine's may quote the prompt.
const fn what_failed(kind: AdapterErrorKind) -> &'static str {
    match kind {
        AdapterErrorKind::Rejected => "the engine refuses the request",
        AdapterErrorKind::NotReady => "the engine is not there or not ready",
        AdapterErrorKind::Unavailable => "the engine does not serve us",
        AdapterErrorKind::Exhausted => "the engine has no room for the request",
        AdapterErrorKind::Timeout => "the engine stays silent for too long",
        AdapterErrorKind::Reset => "the engine gives the generation up or dies",
        AdapterErrorKind::Protocol => "the engine's answer cannot be understood",
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
