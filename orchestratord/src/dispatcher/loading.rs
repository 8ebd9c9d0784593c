//! A load that a waiting task waits for, as its node reports it. Pure.

use api_types::operation::OperationState;
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState};
use api_types::{ModelRef, PoolId};

/// Who loads, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loading {
    /// The pool.
    pub pool_id: PoolId,
    /// What is on the GPUs already, bytes; absent where the driver does not tell. Of a model that is being fetched: what is
    /// on the node.
    pub done: Option<u64>,
    /// What will be there at least, bytes; absent where the model's header, or its source, does not tell.
    pub total: Option<u64>,
}

impl Loading {
    /// How far a pool is with the load of this model; `None` when it is not loading it.
    pub(super) fn of(report: &PoolReport, model: &ModelRef) -> Option<Self> {
        let listed = report.listed(model);
        let operation = report.operation.as_ref();
        let loads = operation.filter(|operation| operation.state == OperationState::Running);
        let loads = loads.and_then(|operation| operation.model_ref.as_ref());
        let swaps = loads.is_some() && loads == listed.map(|listed| &listed.model_ref);
        let starts = model.means(&report.model_id, &report.model_ref);
        if let Some(fetch) = listed.and_then(|listed| listed.fetch)
            && (swaps || starts)
        {
            return Some(Self {
                pool_id: report.pool_id.clone(),
                done: Some(fetch.bytes),
                total: fetch.total_bytes,
            });
        }
        let replicas: Vec<&ReplicaReport> = report.replicas.iter().filter(is_under_way).collect();
        if replicas.is_empty() || !(swaps || starts) {
            return None;
        }
        Some(Self {
            pool_id: report.pool_id.clone(),
            done: replicas.iter().map(|replica| replica.gpu_memory_bytes).sum(),
            total: listed.and_then(|listed| Some(listed.weight_bytes? * replicas.len() as u64)),
        })
    }
}

fn is_under_way(replica: &&ReplicaReport) -> bool {
    matches!(replica.state, ReplicaState::Starting | ReplicaState::Loading)
}
