//! What a pool-managerd with one ready engine would report. Pure.

use std::net::SocketAddr;

use anyhow::Result;
use api_types::link::NodeReport;
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState, Residency};
use api_types::{EngineKind, Workload};
use uuid::Uuid;

use crate::load::MODEL;

/// The engine's context per slot, tokens: the longest stream of any measurement fits.
const CTX: u32 = 1 << 20;

/// A node with one pool, one ready replica and so many slots.
///
/// # Errors
/// Never, as long as the names below are well-formed.
pub(super) fn of_one_pool(engine: SocketAddr, slots: u32) -> Result<NodeReport> {
    Ok(NodeReport {
        node_id: "bench-node".parse()?,
        instance: Uuid::new_v4(),
        seq: 1,
        address: "http://127.0.0.1:9".to_owned(),
        relay: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        driver: None,
        driver_error: None,
        gpus: Vec::new(),
        pools: vec![pool(engine, slots)?],
    })
}

fn pool(engine: SocketAddr, slots: u32) -> Result<PoolReport> {
    Ok(PoolReport {
        pool_id: "bench-pool".parse()?,
        engine: EngineKind::Llamacpp,
        engine_catalog_id: None,
        engine_digest: None,
        model_id: MODEL.parse()?,
        model_ref: MODEL.parse()?,
        model_digest: None,
        model_bytes: None,
        ctx_max: CTX,
        device_mask: Vec::new(),
        supported_workloads: vec![Workload::Completion],
        deterministic: false,
        generation: 1,
        draining: false,
        unloaded: false,
        models: Vec::new(),
        residency: Residency::default(),
        operation_generation: 0,
        operation: None,
        replicas: vec![replica(engine, slots)?],
        cause: None,
        hint: None,
    })
}

fn replica(engine: SocketAddr, slots: u32) -> Result<ReplicaReport> {
    Ok(ReplicaReport {
        replica_id: "bench-replica".parse()?,
        state: ReplicaState::Ready,
        generation: 1,
        endpoint: Some(format!("http://{engine}")),
        endpoint_key: None,
        slots_total: Some(slots),
        ctx_per_slot: Some(CTX),
        engine_version: None,
        started_ms_ago: None,
        load_ms: None,
        pid: None,
        gpu_memory_bytes: None,
        restarts: 0,
        cause: None,
        last_error: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_ready_and_as_large_as_asked() {
        let report = of_one_pool("127.0.0.1:1".parse().unwrap(), 64).unwrap();
        assert!(report.pools[0].is_ready());
        assert_eq!(report.pools[0].replicas[0].slots_total, Some(64));
    }
}
