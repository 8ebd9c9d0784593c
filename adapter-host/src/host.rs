//! The facade: bind and unbind from pool reports; submit, health and props for everybody else.

use std::sync::Arc;

use adapter_api::{AdapterError, AdapterErrorKind, EngineProps, Health, Job, TokenStream};
use api_types::{Message, PoolId, ReplicaId};
use narration_core::Narration;

use crate::breaker::{Breaker, BreakerOptions};
use crate::endpoint::{Adapters, EndpointSpec};
use crate::error::{BindError, HostError};
use crate::metrics::Families;
use crate::options::Options;
use crate::registry::{Bound, Registry, Target, Unbound};
use crate::replica::{ACTOR, Replica, ReplicaSnapshot};
use crate::stream::Observed;

/// All engines that this process can reach.
pub struct AdapterHost {
    adapters: Adapters,
    breaker: BreakerOptions,
    families: Families,
    registry: Registry,
}

impl AdapterHost {
    /// A host without replicas. Its metric families go into `metrics`.
    ///
    /// # Errors
    /// [`HostError`] for options that cannot work, or when `metrics` has a host's families already.
    pub fn new(options: Options, metrics: &prometheus::Registry) -> Result<Self, HostError> {
        options.check()?;
        Ok(Self {
            adapters: Adapters::new(options.timeouts)?,
            breaker: options.breaker,
            families: Families::register(metrics)?,
            registry: Registry::default(),
        })
    }

    /// From now on this engine process answers for the replica. Reports are levels: the same one again changes nothing.
    ///
    /// `generation` counts the replica's engine processes. A node that has lost its count is unbound first.
    ///
    /// # Errors
    /// [`BindError`]; what was bound before stays bound.
    pub fn bind(
        &self,
        pool: PoolId,
        replica: ReplicaId,
        generation: u64,
        spec: EndpointSpec,
    ) -> Result<Bound, BindError> {
        let target = Target::new(pool, replica);
        let adapter = self.adapters.build(&target, &spec)?;
        let metrics = self.families.replica(&target, spec.engine);
        let breaker = Breaker::new(self.breaker);
        let bound = self.registry.bind(Replica::new(
            target.clone(),
            generation,
            spec,
            adapter,
            metrics,
            breaker,
        ))?;
        match bound {
            Bound::New => tell(&target, "bind", "takes a replica into service"),
            Bound::Rebound => tell(
                &target,
                "rebind",
                "sends new work to the replica's new engine process",
            ),
            Bound::Unchanged => {}
        }
        Ok(bound)
    }

    /// From now on nobody answers for the replica. Streams that run go on until they end or are dropped.
    pub fn unbind(&self, target: &Target) -> Unbound {
        let unbound = self.registry.unbind(target);
        if unbound == Unbound::Removed {
            tell(target, "unbind", "takes a replica out of service");
        }
        unbound
    }

    /// Starts a generation. Returns once the engine has begun to answer, which may be as late as the first token;
    /// `first_token` bounds the wait. Dropping the future, or the stream it gave, cancels.
    ///
    /// # Errors
    /// [`AdapterError`] before the stream begins: the engine's, or `Unavailable` while the replica is not bound or left
    /// alone by its breaker (`retry_after_ms` says for how long).
    pub async fn submit(&self, target: &Target, job: &Job) -> Result<Box<dyn TokenStream>, AdapterError> {
        let replica = self.find(target)?;
        let pass = replica.admit(job).await?;
        replica.metrics.submits.inc();
        match replica.adapter.submit(job).await {
            Ok(stream) => Ok(Box::new(Observed::new(stream, replica, job.task_id, pass))),
            Err(error) => {
                replica.failed(pass, &error, job.task_id);
                Err(error)
            }
        }
    }

    /// Asks the engine whether it can generate. Passes by the breaker: this is how one learns.
    ///
    /// # Errors
    /// [`AdapterError`] when the replica is not bound or the engine does not answer.
    pub async fn health(&self, target: &Target) -> Result<Health, AdapterError> {
        self.find(target)?.adapter.health().await
    }

    /// What the engine says about itself; asked once per generation.
    ///
    /// # Errors
    /// [`AdapterError`] when the replica is not bound, or the engine does not answer or answers something else.
    pub async fn props(&self, target: &Target) -> Result<Arc<EngineProps>, AdapterError> {
        self.find(target)?.props().await
    }

    /// Counts the tokens of a text with the engine's own tokenizer; `None` where it has none.
    ///
    /// # Errors
    /// [`AdapterError`] when the replica is not bound or the engine does not answer.
    pub async fn count_tokens(&self, target: &Target, text: &str) -> Result<Option<u32>, AdapterError> {
        self.find(target)?.adapter.count_tokens(text).await
    }

    /// Counts the tokens of a conversation as the model's template renders it; `None` where the engine cannot tell.
    ///
    /// # Errors
    /// [`AdapterError`] when the replica is not bound, the engine does not answer, or its template refuses the messages.
    pub async fn count_chat_tokens(
        &self,
        target: &Target,
        messages: &[Message],
    ) -> Result<Option<u32>, AdapterError> {
        self.find(target)?.adapter.count_chat_tokens(messages).await
    }

    /// Every replica that is bound, by id, with what is known of it. Asks no engine.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ReplicaSnapshot> {
        self.registry
            .all()
            .iter()
            .map(|replica| replica.snapshot())
            .collect()
    }

    fn find(&self, target: &Target) -> Result<Arc<Replica>, AdapterError> {
        self.registry.get(target).ok_or_else(|| {
            AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!("no engine is bound for {target}"),
            )
        })
    }
}

fn tell(target: &Target, action: &'static str, human: &'static str) {
    Narration::new(ACTOR, action, target, human)
        .pool_id(&target.pool)
        .replica_id(&target.replica)
        .emit();
}
