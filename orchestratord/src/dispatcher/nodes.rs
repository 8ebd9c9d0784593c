//! Node reports: into the fleet, out as adapter bindings and desired state.

use adapter_host::{EndpointSpec, Target};
use api_types::link::{DesiredState, EngineStart, NodeReport, relay_url};
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState};
use api_types::{NodeId, PoolId};
use config_schema::BaseUrl;
use narration_core::Narration;
use secrecy::SecretString;
use tokio::time::Instant;

use super::Dispatcher;
use super::fleet::{Relay, ReportRefused};
use crate::story::ACTOR;

impl Dispatcher {
    /// A node starts, restarts, or was forgotten (ORCH-3426).
    pub(super) fn register(&mut self, report: NodeReport) -> Result<DesiredState, ReportRefused> {
        let node = report.node_id.clone();
        let known = self.fleet.instance(&node) == Some(report.instance);
        self.fleet.register(report.clone(), Instant::now())?;
        if !known {
            // A new instance counts its processes' generations anew.
            self.unbind_node(&node);
            joined(&report);
        }
        Ok(self.taken(&node))
    }

    /// A registered node reports its full state.
    pub(super) fn heartbeat(&mut self, report: NodeReport) -> Result<DesiredState, ReportRefused> {
        let node = report.node_id.clone();
        self.fleet.heartbeat(report, Instant::now())?;
        Ok(self.taken(&node))
    }

    /// A node says goodbye. Its running tasks go on until their engines close.
    pub(super) fn deregister(&mut self, node: &NodeId) -> bool {
        self.unbind_node(node);
        let pools = self.pools_of(node);
        self.give_up_operations(&pools);
        for pool in pools {
            self.parts.metrics.pool_gone(pool.as_str());
        }
        let known = self.fleet.deregister(node);
        if known {
            Narration::new(ACTOR, "deregistration", node, "A node leaves.").emit();
        }
        self.forget_gone_pools();
        self.show_nodes();
        self.dirty = true;
        known
    }

    /// Nodes not heard of: their pools take no new work, nothing else happens (ORCH-3427).
    pub(super) fn sweep_nodes(&mut self, now: Instant) {
        let silent = self.fleet.sweep(now, self.options.stale_after);
        if !silent.is_empty() {
            self.show_nodes();
        }
        for node in silent {
            Narration::new(
                ACTOR,
                "stale",
                &node,
                "A node is not heard of; its pools take no new work.",
            )
            .warning()
            .emit();
            let pools = self.pools_of(&node);
            self.give_up_operations(&pools);
            for pool in pools {
                self.show_pool(&pool);
            }
        }
    }

    fn taken(&mut self, node: &NodeId) -> DesiredState {
        let (pools, relay) = (self.pools_of(node), self.fleet.relay(node));
        for id in &pools {
            if let Some(pool) = self.fleet.pool(id) {
                self.bind(&pool.report, relay.as_ref());
            }
            self.show_pool(id);
        }
        for (pool, model, took_ms) in self.fleet.new_loads(node) {
            self.planner.estimator.loaded(&pool, &model, took_ms);
        }
        self.forget_gone_pools();
        self.show_nodes();
        self.note_recorded(&pools);
        self.dirty = true;
        DesiredState {
            heartbeat_interval_ms: self.options.heartbeat_interval.as_millis() as u64,
            stale_after_ms: self.options.stale_after.as_millis() as u64,
            pools: self.orders_for(&pools),
            leases: self.leases_of(node),
        }
    }

    /// Adapters for every process that may be asked, and for no other.
    fn bind(&self, pool: &PoolReport, relay: Option<&Relay>) {
        let token = self.parts.token.as_ref();
        for replica in &pool.replicas {
            let serving = matches!(replica.state, ReplicaState::Ready | ReplicaState::Draining);
            let spec = match relay {
                Some(relay) => relayed(pool, replica, relay, token),
                None => endpoint(pool, replica),
            };
            match spec.filter(|_| serving) {
                Some(spec) => self.bind_replica(pool, replica, spec),
                None => _ = self.parts.host.unbind(&target(pool, replica)),
            }
        }
    }

    fn bind_replica(&self, pool: &PoolReport, replica: &ReplicaReport, spec: EndpointSpec) {
        let Target {
            pool: pool_id,
            replica: replica_id,
        } = target(pool, replica);
        let bound = self
            .parts
            .host
            .bind(pool_id, replica_id, replica.generation, spec);
        if let Err(error) = bound {
            Narration::new(
                ACTOR,
                "binding",
                &pool.pool_id,
                "An engine's endpoint cannot be used.",
            )
            .error()
            .replica_id(&replica.replica_id)
            .decision(&error)
            .emit();
        }
    }

    fn unbind_node(&self, node: &NodeId) {
        for (_, pool) in self.fleet.pools().filter(|(_, pool)| pool.node == *node) {
            for replica in &pool.report.replicas {
                self.parts.host.unbind(&target(&pool.report, replica));
            }
        }
    }

    fn pools_of(&self, node: &NodeId) -> Vec<PoolId> {
        self.fleet
            .pools()
            .filter(|(_, pool)| pool.node == *node)
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn forget_gone_pools(&mut self) {
        let fleet = &self.fleet;
        self.planner.retain(fleet);
        self.turns.retain(|pool| fleet.pool(pool).is_some());
    }
}

fn target(pool: &PoolReport, replica: &ReplicaReport) -> Target {
    Target::new(pool.pool_id.clone(), replica.replica_id.clone())
}

fn endpoint(pool: &PoolReport, replica: &ReplicaReport) -> Option<EndpointSpec> {
    Some(EndpointSpec {
        engine: pool.engine,
        url: replica.endpoint.clone()?,
        key: replica.endpoint_key.clone().map(SecretString::from),
        relay: None,
    })
}

/// The relay's place for an engine, put together from the node's own address: the token goes nowhere else.
fn relayed(
    pool: &PoolReport,
    replica: &ReplicaReport,
    relay: &Relay,
    token: Option<&SecretString>,
) -> Option<EndpointSpec> {
    replica.endpoint.as_ref()?;
    Some(EndpointSpec {
        engine: pool.engine,
        url: relay_url(&relay.address, &pool.pool_id, &replica.replica_id),
        key: token.cloned(),
        relay: Some(EngineStart {
            instance: relay.instance,
            generation: replica.generation,
        }),
    })
}

fn joined(report: &NodeReport) {
    let (gpus, pools) = (report.gpus.len(), report.pools.len());
    let how = if report.relay { ", over its relay" } else { "" };
    let human = format!("A node joins with {gpus} GPUs and {pools} pools{how}.");
    Narration::new(ACTOR, "registration", &report.node_id, human).emit();
    let plain = |url: BaseUrl| url.is_plain_beyond_loopback();
    if report.relay && report.address.parse().is_ok_and(plain) {
        Narration::new(
            ACTOR,
            "registration",
            &report.node_id,
            "The token, prompts and answers travel to this node unencrypted.",
        )
        .warning()
        .emit();
    }
}
