//! Operations on pools: drain, reload, load, unload. The orchestrator numbers them and repeats the latest one to the node
//! until the node has recorded it; what becomes of it the node reports. Nothing is kept here that a restart would lose: an
//! operation is answered for only once its node has it.

use std::collections::BTreeMap;
use std::time::Duration;

use api_types::link::ReplicaLeases;
use api_types::operation::{
    DesiredPool, ModelChoice, OperationAccepted, OperationKind, OperationState, OperationStatus,
};
use api_types::pool::PoolReport;
use api_types::{ModelId, ModelRef, NodeId, PoolId};
use narration_core::Narration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::Dispatcher;
use super::fleet::Pool;
use crate::story::ACTOR;

/// How long a node may take to record an order: it is told with the next heartbeat, and writes one small file.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);

/// What shall become of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What to do.
    pub kind: OperationKind,
    /// The model to serve, by reference or served name.
    pub model_ref: Option<ModelRef>,
    /// The name clients shall use for it.
    pub model_id: Option<ModelId>,
    /// How long running tasks may go on, ms.
    pub deadline_ms: u64,
}

/// Why nothing becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOperated {
    /// There is no such pool.
    #[error("there is no pool {0}")]
    Unknown(PoolId),
    /// The pool's node is silent.
    #[error("the node of pool {0} has not been heard of lately, so it cannot be told")]
    Silent(PoolId),
    /// Another operation runs.
    #[error("operation {operation_id} ({kind}) on the pool is not over")]
    Busy {
        /// Which one.
        operation_id: Uuid,
        /// What it does.
        kind: &'static str,
    },
    /// A model that the pool does not list.
    #[error("model_ref: the pool has no model {model}; it has {known}. POST …/reload takes others")]
    NoSuchModel {
        /// What was asked for.
        model: String,
        /// What there is.
        known: String,
    },
    /// A reference whose last part is no name.
    #[error("model_id: is needed, the last part of {0} is not a name")]
    Nameless(String),
}

/// Whoever waits for an operation to be recorded.
pub(super) type Waiting = oneshot::Sender<Result<OperationAccepted, NotOperated>>;

/// Operations that their nodes have not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Operations(BTreeMap<PoolId, Pending>);

#[derive(Debug)]
struct Pending {
    desired: DesiredPool,
    since: Instant,
    waiting: Vec<Waiting>,
}

impl Operations {
    /// The operation on a pool that its node has not recorded yet.
    pub(super) fn pending(&self, pool: &PoolId) -> Option<&DesiredPool> {
        self.0.get(pool).map(|pending| &pending.desired)
    }

    /// Takes what a node has recorded; tells those who waited for it. An order that was given before under the same
    /// number is numbered anew.
    fn recorded(&mut self, report: &PoolReport) {
        let Some(pending) = self.0.get_mut(&report.pool_id) else {
            return;
        };
        if pending.desired.generation > report.operation_generation {
            return;
        }
        let known = report.operation.as_ref().map(|operation| operation.operation_id);
        if known != Some(pending.desired.operation_id) {
            pending.desired.generation = report.operation_generation + 1;
            return;
        }
        if let Some(pending) = self.0.remove(&report.pool_id) {
            let desired = &pending.desired;
            let accepted = accepted(&desired.pool_id, desired.operation_id, desired.kind);
            pending.tell(&Ok(accepted));
        }
    }

    fn give_up(&mut self, pool: &PoolId) {
        if let Some(pending) = self.0.remove(pool) {
            pending.tell(&Err(NotOperated::Silent(pool.clone())));
        }
    }
}

impl Pending {
    fn tell(self, outcome: &Result<OperationAccepted, NotOperated>) {
        for waiting in self.waiting {
            // A caller that no longer waits for its answer is not an error.
            let _heard_or_gone = waiting.send(outcome.clone());
        }
    }
}

impl Dispatcher {
    /// Begins an operation, or joins the same one that is under way already.
    pub(super) fn operate(&mut self, id: &PoolId, ask: &Ask, waiting: Waiting) {
        match self.begin(id, ask) {
            Ok(Begun::Recorded(accepted)) => _ = waiting.send(Ok(accepted)),
            Ok(Begun::Pending) => {
                if let Some(pending) = self.operations.0.get_mut(id) {
                    pending.waiting.push(waiting);
                }
            }
            Err(not) => _ = waiting.send(Err(not)),
        }
    }

    /// Begins an operation of the orchestrator's own. Whether it did.
    pub(super) fn operate_alone(&mut self, id: &PoolId, ask: &Ask) -> bool {
        self.begin(id, ask).is_ok()
    }

    /// Whether an operation on the pool is not over.
    pub(super) fn is_operated(&self, id: &PoolId) -> bool {
        let runs = |pool: &Pool| running(&pool.report).is_some();
        self.operations.pending(id).is_some() || self.fleet.pool(id).is_some_and(runs)
    }

    fn begin(&mut self, id: &PoolId, ask: &Ask) -> Result<Begun, NotOperated> {
        let pool = self
            .fleet
            .pool(id)
            .ok_or_else(|| NotOperated::Unknown(id.clone()))?;
        if !pool.live {
            return Err(NotOperated::Silent(id.clone()));
        }
        let report = &pool.report;
        let model = ask.model(report)?;
        if let Some(pending) = self.operations.pending(id) {
            return if (pending.kind, &pending.model) == (ask.kind, &model) {
                Ok(Begun::Pending)
            } else {
                Err(busy(pending.operation_id, pending.kind))
            };
        }
        if let Some(running) = running(report) {
            let same = running.kind == ask.kind && same_model(running, model.as_ref());
            return if same {
                Ok(Begun::Recorded(accepted(id, running.operation_id, running.kind)))
            } else {
                Err(busy(running.operation_id, running.kind))
            };
        }
        let desired = DesiredPool {
            pool_id: id.clone(),
            generation: report.operation_generation + 1,
            operation_id: Uuid::new_v4(),
            kind: ask.kind,
            model,
            deadline_ms: ask.deadline_ms,
        };
        tell(&desired);
        let closes = matches!(desired.kind, OperationKind::Drain | OperationKind::Unload);
        if closes {
            // No lease is given any more while the order is on its way.
            self.fleet.set_closed(id, true);
        }
        let pending = Pending {
            desired,
            since: Instant::now(),
            waiting: Vec::new(),
        };
        self.operations.0.insert(id.clone(), pending);
        self.show_pool(id);
        self.dirty = true;
        Ok(Begun::Pending)
    }

    /// What a node has recorded.
    pub(super) fn note_recorded(&mut self, pools: &[PoolId]) {
        for id in pools {
            if let Some(pool) = self.fleet.pool(id) {
                self.operations.recorded(&pool.report);
            }
        }
    }

    /// The node is silent: whether it got the order is not known.
    pub(super) fn give_up_operations(&mut self, pools: &[PoolId]) {
        for id in pools {
            self.operations.give_up(id);
            self.fleet.set_closed(id, false);
        }
    }

    /// An order that a node does not record, though it reports, is given up as well.
    pub(super) fn give_up_overdue(&mut self, now: Instant) {
        let overdue = |pending: &Pending| now.saturating_duration_since(pending.since) >= RECORDED_WITHIN;
        let pools = self.operations.0.iter().filter(|(_, pending)| overdue(pending));
        let pools: Vec<PoolId> = pools.map(|(id, _)| id.clone()).collect();
        self.give_up_operations(&pools);
    }

    /// What a node is to be told.
    pub(super) fn orders_for(&self, pools: &[PoolId]) -> Vec<DesiredPool> {
        pools
            .iter()
            .filter_map(|id| self.operations.pending(id).cloned())
            .collect()
    }

    /// Tasks that run on a node.
    pub(super) fn leases_of(&self, node: &NodeId) -> Vec<ReplicaLeases> {
        let pools = self.fleet.pools().filter(|(_, pool)| pool.node == *node);
        let each = pools.flat_map(|(id, pool)| {
            pool.leased().map(|(replica_id, leases)| ReplicaLeases {
                pool_id: id.clone(),
                replica_id: replica_id.clone(),
                leases,
            })
        });
        each.collect()
    }
}

/// What came of an ask at once.
enum Begun {
    /// The node has it already.
    Recorded(OperationAccepted),
    /// The node is to be told.
    Pending,
}

impl Ask {
    /// The model that is meant.
    fn model(&self, report: &PoolReport) -> Result<Option<ModelChoice>, NotOperated> {
        let Some(wanted) = &self.model_ref else {
            return Ok(None);
        };
        if let Some(listed) = report.listed(wanted) {
            return Ok(Some(ModelChoice {
                model_ref: listed.model_ref.clone(),
                model_id: self.model_id.clone().unwrap_or_else(|| listed.model_id.clone()),
            }));
        }
        if self.kind != OperationKind::Reload {
            let known = report.models.iter().map(|model| model.model_id.as_str());
            return Err(NotOperated::NoSuchModel {
                model: wanted.as_str().to_owned(),
                known: known.collect::<Vec<_>>().join(", "),
            });
        }
        let model_id = self.model_id.clone().or_else(|| wanted.served_name());
        let model_id = model_id.ok_or_else(|| NotOperated::Nameless(wanted.as_str().to_owned()))?;
        Ok(Some(ModelChoice {
            model_ref: wanted.clone(),
            model_id,
        }))
    }
}

fn running(report: &PoolReport) -> Option<&OperationStatus> {
    let operation = report.operation.as_ref();
    operation.filter(|operation| operation.state == OperationState::Running)
}

/// A load without a model means the one that is loading.
fn same_model(running: &OperationStatus, model: Option<&ModelChoice>) -> bool {
    model.is_none_or(|model| running.model_ref.as_ref() == Some(&model.model_ref))
}

fn busy(operation_id: Uuid, kind: OperationKind) -> NotOperated {
    NotOperated::Busy {
        operation_id,
        kind: kind.as_str(),
    }
}

fn accepted(pool: &PoolId, operation_id: Uuid, kind: OperationKind) -> OperationAccepted {
    OperationAccepted {
        pool_id: pool.clone(),
        operation_id,
        kind,
        health_url: format!("/v1/pools/{pool}/health"),
    }
}

fn tell(desired: &DesiredPool) {
    let human = match desired.kind {
        OperationKind::Drain => "The pool is to finish what runs and take no more.",
        OperationKind::Unload => "The pool is to give its memory back.",
        OperationKind::Load => "The pool is to load a model.",
        OperationKind::Reload => "The pool is to serve another model.",
    };
    Narration::new(ACTOR, desired.kind.as_str(), &desired.pool_id, human)
        .pool_id(&desired.pool_id)
        .model_id(desired.model.as_ref().map(|model| &model.model_id))
        .emit();
}
