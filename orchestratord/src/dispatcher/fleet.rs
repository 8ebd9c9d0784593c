//! The fleet as its nodes last reported it, and the leases on it. Levels, not deltas: a report
//! replaces what was known of its node.
//!
//! Owns node reports and lease counts. Decides nothing; `plan` turns it into placement input.

use std::collections::BTreeMap;
use std::time::Duration;

use api_types::link::{NodeReport, NodeStatus};
use api_types::pool::{PoolReport, ReplicaState};
use api_types::{ModelId, NodeId, PoolId, ReplicaId};
use tokio::time::Instant;
use uuid::Uuid;

/// Why a report was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefused {
    /// Nobody has registered this node (or the orchestrator has restarted).
    #[error("node {node} is not registered")]
    Unregistered {
        /// The node.
        node: NodeId,
    },
    /// Another, live instance of the node reports too.
    #[error("node {node} is already served by another pool-managerd that is alive")]
    Duplicate {
        /// The node.
        node: NodeId,
    },
    /// A pool id that another node reports.
    #[error("pool {pool} is already reported by node {owner}")]
    PoolTaken {
        /// The pool.
        pool: PoolId,
        /// Who has it.
        owner: NodeId,
    },
    /// Older than what is known.
    #[error("report {seq} of node {node} is older than report {known}")]
    Stale {
        /// The node.
        node: NodeId,
        /// The report's number.
        seq: u64,
        /// The known number.
        known: u64,
    },
}

/// A pool-managerd that passes requests on to its engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relay {
    /// Its base URL.
    pub address: String,
    /// Which start of it counts the engines' generations.
    pub instance: Uuid,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    /// Its last report.
    pub report: NodeReport,
    /// When it came.
    pub seen: Instant,
    /// Heard of lately.
    pub live: bool,
}

/// One pool with its leases.
#[derive(Debug)]
pub(super) struct Pool {
    /// The node that reports it.
    pub node: NodeId,
    /// Its last report.
    pub report: PoolReport,
    /// Its node was heard of lately.
    pub live: bool,
    leases: BTreeMap<ReplicaId, u32>,
    /// Told to take no new work by an order that its node has not recorded yet.
    closed: bool,
    /// Generations that broke under a task since the last report: not to be used until a newer
    /// report says otherwise.
    suspects: Vec<(ReplicaId, u64)>,
    /// Starts whose load time was learned.
    told_loads: Vec<(ReplicaId, u64)>,
    /// Slots an engine of it had when one was last ready.
    known_slots: Option<u32>,
    /// Since when it takes no new work.
    unready_since: Option<Instant>,
    /// Since when it takes new work.
    ready_since: Option<Instant>,
    /// When a slot was last leased or given back.
    last_used: Option<Instant>,
}

impl Pool {
    /// Whether new work may be placed here (invariant 7).
    #[must_use]
    pub(super) fn is_ready(&self) -> bool {
        self.live && !self.closed && !self.report.draining && self.usable().next().is_some()
    }

    /// Slots of the replicas that take work.
    #[must_use]
    pub(super) fn slots_total(&self) -> u32 {
        self.usable().map(|(_, slots, _)| slots).sum()
    }

    /// Slots without a lease.
    #[must_use]
    pub(super) fn slots_free(&self) -> u32 {
        if !self.is_ready() {
            return 0;
        }
        self.usable()
            .map(|(_, slots, leases)| slots.saturating_sub(leases))
            .sum()
    }

    /// Tasks running here, also on replicas that take no new work.
    #[must_use]
    pub(super) fn leases(&self) -> u32 {
        self.leases.values().sum()
    }

    /// The tasks that run on each replica.
    pub(super) fn leased(&self) -> impl Iterator<Item = (&ReplicaId, u32)> {
        let each = self.leases.iter().map(|(replica, &leases)| (replica, leases));
        each.filter(|(_, leases)| *leases > 0)
    }

    /// A replica that takes work, for questions that need no slot.
    #[must_use]
    pub(super) fn a_ready_replica(&self) -> Option<ReplicaId> {
        let (index, ..) = self.usable().next()?;
        Some(self.report.replicas[index].replica_id.clone())
    }

    fn note_readiness(&mut self, now: Instant) {
        let ready = self.is_ready();
        self.unready_since = if ready {
            None
        } else {
            self.unready_since.or(Some(now))
        };
        self.ready_since = if ready {
            self.ready_since.or(Some(now))
        } else {
            None
        };
    }

    /// For how long it could have worked and did not; `None` while it works or cannot.
    #[must_use]
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        let since = self.ready_since.filter(|_| self.leases() == 0)?;
        Some(now.saturating_duration_since(self.last_used.map_or(since, |used| used.max(since))))
    }

    /// Whether nothing has run there since it was loaded.
    #[must_use]
    pub(super) fn is_just_chosen(&self) -> bool {
        let Some(since) = self.ready_since else {
            return false;
        };
        self.last_used.is_none_or(|used| used < since)
    }

    /// What its engines hold on the GPUs, as far as the driver tells, bytes.
    #[must_use]
    pub(super) fn holds_bytes(&self) -> u64 {
        let held = self
            .report
            .replicas
            .iter()
            .filter_map(|replica| replica.gpu_memory_bytes);
        held.sum()
    }

    /// The ready replica with the most free slots; the first of equals.
    fn pick(&self) -> Option<usize> {
        let free = self
            .usable()
            .map(|(index, slots, leases)| (slots.saturating_sub(leases), index));
        free.filter(|&(free, _)| free > 0)
            .max_by_key(|&(free, index)| (free, std::cmp::Reverse(index)))
            .map(|(_, i)| i)
    }

    /// Index, slots and leases of every replica that takes work.
    fn usable(&self) -> impl Iterator<Item = (usize, u32, u32)> {
        self.report
            .replicas
            .iter()
            .enumerate()
            .filter_map(|(index, replica)| {
                let suspect = self
                    .suspects
                    .iter()
                    .any(|(id, g)| *id == replica.replica_id && *g == replica.generation);
                if replica.state != ReplicaState::Ready || replica.endpoint.is_none() || suspect {
                    return None;
                }
                let leases = self.leases.get(&replica.replica_id).copied().unwrap_or(0);
                Some((index, replica.slots_total.unwrap_or(1), leases))
            })
    }
}

/// All nodes and pools.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    nodes: BTreeMap<NodeId, Node>,
    pools: BTreeMap<PoolId, Pool>,
    version: u64,
}

impl Fleet {
    /// Takes a registration: the full state of a node that starts, restarts, or was forgotten.
    ///
    /// # Errors
    /// [`ReportRefused`]; nothing is changed then.
    pub(super) fn register(&mut self, report: NodeReport, now: Instant) -> Result<(), ReportRefused> {
        if let Some(known) = self.nodes.get(&report.node_id)
            && known.live
            && known.report.instance != report.instance
            && known.report.address != report.address
        {
            return Err(ReportRefused::Duplicate { node: report.node_id });
        }
        self.apply(report, now)
    }

    /// Takes a heartbeat of a registered node.
    ///
    /// # Errors
    /// [`ReportRefused`]; nothing is changed then.
    pub(super) fn heartbeat(&mut self, report: NodeReport, now: Instant) -> Result<(), ReportRefused> {
        let instance = |node: &Node| (node.report.instance, node.report.seq);
        match self.nodes.get(&report.node_id).map(instance) {
            Some((known, seq)) if known == report.instance && report.seq <= seq => {
                Err(ReportRefused::Stale {
                    node: report.node_id,
                    seq: report.seq,
                    known: seq,
                })
            }
            Some((known, _)) if known == report.instance => self.apply(report, now),
            _ => Err(ReportRefused::Unregistered { node: report.node_id }),
        }
    }

    fn apply(&mut self, report: NodeReport, now: Instant) -> Result<(), ReportRefused> {
        self.check_pools(&report)?;
        let node = report.node_id.clone();
        self.pools
            .retain(|id, pool| pool.node != node || report.pools.iter().any(|p| p.pool_id == *id));
        for pool in &report.pools {
            self.apply_pool(&node, pool, now);
        }
        self.nodes.insert(
            node,
            Node {
                report,
                seen: now,
                live: true,
            },
        );
        self.version += 1;
        Ok(())
    }

    fn check_pools(&self, report: &NodeReport) -> Result<(), ReportRefused> {
        let taken = report.pools.iter().find_map(|pool| {
            let owner = &self.pools.get(&pool.pool_id)?.node;
            (*owner != report.node_id).then(|| (pool.pool_id.clone(), owner.clone()))
        });
        taken.map_or(Ok(()), |(pool, owner)| {
            Err(ReportRefused::PoolTaken { pool, owner })
        })
    }

    fn apply_pool(&mut self, node: &NodeId, report: &PoolReport, now: Instant) {
        let entry = self.pools.entry(report.pool_id.clone()).or_insert_with(|| Pool {
            node: node.clone(),
            report: report.clone(),
            live: true,
            leases: BTreeMap::new(),
            closed: false,
            suspects: Vec::new(),
            told_loads: Vec::new(),
            known_slots: None,
            unready_since: None,
            ready_since: None,
            last_used: None,
        });
        let slots = report.replicas.iter().filter_map(|replica| replica.slots_total);
        entry.known_slots = slots.max().or(entry.known_slots);
        entry.closed &= entry.report.operation_generation == report.operation_generation;
        entry.report = report.clone();
        entry.live = true;
        entry.suspects.clear();
        entry.note_readiness(now);
    }

    /// Forgets a node that says goodbye. Tasks that still run there keep running.
    pub(super) fn deregister(&mut self, node: &NodeId) -> bool {
        self.pools.retain(|_, pool| pool.node != *node);
        self.version += 1;
        self.nodes.remove(node).is_some()
    }

    /// Marks nodes not heard of for `stale_after`; returns those that have just become stale.
    pub(super) fn sweep(&mut self, now: Instant, stale_after: Duration) -> Vec<NodeId> {
        let stale: Vec<NodeId> = self
            .nodes
            .iter_mut()
            .filter(|(_, node)| node.live && now.saturating_duration_since(node.seen) > stale_after)
            .map(|(id, node)| {
                node.live = false;
                id.clone()
            })
            .collect();
        for pool in self.pools.values_mut().filter(|pool| stale.contains(&pool.node)) {
            pool.live = false;
            pool.note_readiness(now);
            self.version += 1;
        }
        stale
    }

    /// Leases a slot of `pool`; tells the replica's index in the report.
    pub(super) fn lease(&mut self, pool: &PoolId, now: Instant) -> Option<usize> {
        let pool = self.pools.get_mut(pool).filter(|p| p.is_ready())?;
        let index = pool.pick()?;
        let replica = pool.report.replicas[index].replica_id.clone();
        *pool.leases.entry(replica).or_insert(0) += 1;
        pool.last_used = Some(now);
        Some(index)
    }

    /// Gives a slot back. The pool may be gone meanwhile.
    pub(super) fn release(&mut self, pool: &PoolId, replica: &ReplicaId, now: Instant) {
        let Some(known) = self.pools.get_mut(pool) else {
            return;
        };
        known.last_used = Some(now);
        let Some(leases) = known.leases.get_mut(replica) else {
            return;
        };
        debug_assert!(*leases > 0, "a lease of {pool}/{replica} was released twice");
        *leases = leases.saturating_sub(1);
    }

    /// Keeps tasks away from a process that broke, until its node reports again.
    pub(super) fn suspect(&mut self, pool: &PoolId, replica: &ReplicaId, generation: u64) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.suspects.push((replica.clone(), generation));
            self.version += 1;
        }
    }

    /// Whether no lease is given on a pool, until its node has recorded the operation that says so.
    pub(super) fn set_closed(&mut self, pool: &PoolId, closed: bool) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.closed = closed;
            self.version += 1;
        }
    }

    /// One pool.
    #[must_use]
    pub(super) fn pool(&self, id: &PoolId) -> Option<&Pool> {
        self.pools.get(id)
    }

    /// All pools by id.
    pub(super) fn pools(&self) -> impl Iterator<Item = (&PoolId, &Pool)> {
        self.pools.iter()
    }

    /// For how long a pool has taken no new work, as far as its node told.
    #[must_use]
    pub(super) fn unready_for(&self, id: &PoolId, now: Instant) -> Option<Duration> {
        let since = self.pools.get(id)?.unready_since?;
        Some(now.saturating_duration_since(since))
    }

    /// Engines of a pool that are being started: the slots each is expected to have, and since when,
    /// ms.
    #[must_use]
    pub(super) fn starting(&self, id: &PoolId, now: Instant) -> Vec<(u32, u64)> {
        let Some(pool) = self
            .pools
            .get(id)
            .filter(|pool| pool.live && !pool.report.draining)
        else {
            return Vec::new();
        };
        let reported = self.nodes.get(&pool.node).map(|node| node.seen);
        let since_report = reported.map_or(0, |seen| now.saturating_duration_since(seen).as_millis() as u64);
        let starting = pool.report.replicas.iter().filter_map(|replica| {
            let started_ms_ago = replica.started_ms_ago?;
            let slots = replica.slots_total.or(pool.known_slots).unwrap_or(1);
            Some((slots, started_ms_ago.saturating_add(since_report)))
        });
        starting.collect()
    }

    /// Load times of a node's engines that were not told before.
    pub(super) fn new_loads(&mut self, node: &NodeId) -> Vec<(PoolId, ModelId, u64)> {
        let pools = self.pools.iter_mut().filter(|(_, pool)| pool.node == *node);
        let mut loads = Vec::new();
        for (id, pool) in pools {
            for replica in &pool.report.replicas {
                let told = (replica.replica_id.clone(), replica.generation);
                if let Some(took_ms) = replica.load_ms
                    && !pool.told_loads.contains(&told)
                {
                    loads.push((id.clone(), pool.report.model_id.clone(), took_ms));
                    // Generations only grow: one entry per replica.
                    pool.told_loads.retain(|(known, _)| *known != told.0);
                    pool.told_loads.push(told);
                }
            }
        }
        loads
    }

    /// Whether any node has ever registered and is known.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Base URL of the node's pool-managerd.
    #[must_use]
    pub(super) fn address(&self, node: &NodeId) -> Option<&str> {
        self.nodes.get(node).map(|n| n.report.address.as_str())
    }

    /// The pool-managerd whose relay leads to the node's engines; `None` where they are reached without.
    #[must_use]
    pub(super) fn relay(&self, node: &NodeId) -> Option<Relay> {
        let report = &self.nodes.get(node)?.report;
        report.relay.then(|| Relay {
            address: report.address.clone(),
            instance: report.instance,
        })
    }

    /// Which start of its pool-managerd a node last reported.
    #[must_use]
    pub(super) fn instance(&self, node: &NodeId) -> Option<Uuid> {
        self.nodes.get(node).map(|n| n.report.instance)
    }

    /// GPU memory nobody uses on the pool's devices, bytes; `None` where a device is not reported.
    #[must_use]
    pub(super) fn vram_free_bytes(&self, pool: &Pool) -> Option<u64> {
        let gpus = &self.nodes.get(&pool.node)?.report.gpus;
        let free = |uuid: &String| {
            gpus.iter()
                .find(|gpu| gpu.uuid == *uuid)
                .map(|gpu| gpu.memory_free_bytes)
        };
        pool.report.device_mask.iter().map(free).sum()
    }

    /// Counts changes of what is reported (not of leases).
    #[must_use]
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// All nodes as the API shows them.
    #[must_use]
    pub(super) fn node_statuses(&self, now: Instant) -> Vec<NodeStatus> {
        self.nodes.values().map(|node| status_of(node, now)).collect()
    }
}

fn status_of(node: &Node, now: Instant) -> NodeStatus {
    let report = &node.report;
    NodeStatus {
        node_id: report.node_id.clone(),
        address: report.address.clone(),
        relay: report.relay,
        version: report.version.clone(),
        live: node.live,
        last_seen_ms: now.saturating_duration_since(node.seen).as_millis() as u64,
        driver: report.driver.clone(),
        driver_error: report.driver_error.clone(),
        gpus: report.gpus.clone(),
        pools: report.pools.iter().map(|pool| pool.pool_id.clone()).collect(),
    }
}
