//! The node's full state as data, put together from what the watches hold at the moment of asking.

use api_types::NodeId;
use api_types::link::NodeReport;
use tokio::sync::watch;
use uuid::Uuid;

use crate::gpu::{GpuState, describe};
use crate::pool::{Pools, strip_keys};
use crate::procfs::Stat;
use crate::reach::Reach;

/// Puts reports together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    identity: Identity,
    gpus: watch::Receiver<GpuState>,
    pools: Pools,
}

/// What a node is called and where it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The node.
    pub node_id: NodeId,
    /// This run of the daemon.
    pub instance: Uuid,
    /// How the orchestrator gets here.
    pub reach: Reach,
}

impl Reporter {
    /// Reports on these.
    #[must_use]
    pub const fn new(identity: Identity, gpus: watch::Receiver<GpuState>, pools: Pools) -> Self {
        Self {
            identity,
            gpus,
            pools,
        }
    }

    /// The full state for the orchestrator: with the engines' keys, or with the relay's places for them.
    #[must_use]
    pub fn full(&self, seq: u64) -> NodeReport {
        let mut report = self.state(seq);
        let pools = report.pools.iter_mut();
        pools.for_each(|pool| self.identity.reach.address_engines(pool));
        report
    }

    /// The full state for anybody else: without keys.
    #[must_use]
    pub fn public(&self, seq: u64) -> NodeReport {
        let mut report = self.state(seq);
        report.pools.iter_mut().for_each(strip_keys);
        report
    }

    fn state(&self, seq: u64) -> NodeReport {
        let mut report = NodeReport {
            node_id: self.identity.node_id.clone(),
            instance: self.identity.instance,
            seq,
            address: self.identity.reach.address.clone(),
            relay: self.identity.reach.relay,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: None,
            driver_error: None,
            gpus: Vec::new(),
            pools: self.pools.report(),
        };
        describe(&self.gpus.borrow(), &mut report);
        self.attribute(&mut report);
        report
    }

    /// Says whose the programs on the GPUs are, and what is to be left free.
    fn attribute(&self, report: &mut NodeReport) {
        let engines = self.pools.engines();
        for gpu in &mut report.gpus {
            for process in &mut gpu.processes {
                let group = Stat::of(process.pid).map(|stat| stat.group);
                let own = group.and_then(|group| engines.get(&group));
                process.pool_id = own.map(|(pool, _)| pool.clone());
                process.replica_id = own.map(|(_, replica)| replica.clone());
            }
            let own = gpu.processes.iter().filter(|process| process.pool_id.is_some());
            let own: u64 = own.filter_map(|process| process.used_bytes).sum();
            gpu.used_by_others_bytes = gpu.memory_used_bytes.saturating_sub(own);
            gpu.reserved_bytes = self.pools.reserved(&gpu.uuid);
        }
    }
}
