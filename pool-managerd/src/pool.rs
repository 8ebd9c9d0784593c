//! The node's pools (ORCH-3420): what each is made of and how it fares now. Built once from the
//! configuration; everything that changes is read through watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_types::link::{DesiredPool, EngineLog};
use api_types::pool::{PoolReport, ReplicaReport, ReplicaState, UnreadyCause};
use api_types::{EngineKind, ModelId, ModelRef, PoolId, ReplicaId, Workload};
use indexmap::IndexMap;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::engine::output::Output;
use crate::facts::{FileIdentity, Inputs, WatchedFile};
use crate::replica::{ReplicaHandle, ReplicaView};
use crate::trouble::Unready;

/// What a pool is, as configured.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// Its id.
    pub id: PoolId,
    /// Its engine.
    pub engine: EngineKind,
    /// The name clients use.
    pub model_id: ModelId,
    /// The model.
    pub model_ref: ModelRef,
    /// `sha256:…` that the model file must have, where the configuration says so.
    pub model_sha256: Option<String>,
    /// GPU UUIDs.
    pub devices: Vec<String>,
    /// Bytes to be left free, by GPU.
    pub reserved: Arc<BTreeMap<String, u64>>,
    /// What it serves; its engines are started for it and asked about it before they count as ready.
    pub workloads: Vec<Workload>,
    /// Context per slot, tokens.
    pub ctx: u32,
    /// Whether its settings make output reproducible.
    pub deterministic: bool,
}

/// The pool's configuration is read at the start of the daemon and never changes under it.
const CONFIG_GENERATION: u64 = 1;

/// One pool.
#[derive(Debug)]
pub struct Pool {
    /// As configured.
    pub spec: PoolSpec,
    /// Its model file.
    pub model: WatchedFile,
    /// Its engine's binary.
    pub binary: WatchedFile,
    /// Its engines.
    pub replicas: Vec<ReplicaHandle>,
}

/// The orchestrator's wishes by pool.
pub type Wishes = BTreeMap<PoolId, DesiredPool>;

/// All pools, in the order of the configuration.
#[derive(Debug, Clone)]
pub struct Pools {
    pools: Arc<IndexMap<PoolId, Pool>>,
    wishes: watch::Receiver<Wishes>,
}

impl Pools {
    /// The pools and what is wished of them.
    #[must_use]
    pub fn new(pools: impl IntoIterator<Item = Pool>, wishes: watch::Receiver<Wishes>) -> Self {
        let keyed = pools.into_iter().map(|pool| (pool.spec.id.clone(), pool));
        Self {
            pools: Arc::new(keyed.collect()),
            wishes,
        }
    }

    /// One pool.
    #[must_use]
    pub fn get(&self, id: &PoolId) -> Option<&Pool> {
        self.pools.get(id)
    }

    /// Every pool.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// Whether a pool shall take no new work.
    #[must_use]
    pub fn drains(&self, id: &PoolId) -> bool {
        self.wishes.borrow().get(id).is_some_and(|wish| wish.drain)
    }

    /// The wishes, to wait for their changes.
    #[must_use]
    pub fn wishes(&self) -> watch::Receiver<Wishes> {
        self.wishes.clone()
    }

    /// The full state of every pool, with the engines' keys.
    #[must_use]
    pub fn report(&self) -> Vec<PoolReport> {
        self.iter().map(|pool| self.report_of(pool)).collect()
    }

    /// The full state of one pool, with its engines' keys.
    #[must_use]
    pub fn report_of(&self, pool: &Pool) -> PoolReport {
        pool.report(self.drains(&pool.spec.id))
    }

    /// Whose engine is which process group.
    #[must_use]
    pub fn engines(&self) -> BTreeMap<u32, (PoolId, ReplicaId)> {
        let replicas = self
            .iter()
            .flat_map(|pool| pool.replicas.iter().map(move |replica| (pool, replica)));
        let group = |(pool, replica): (&Pool, &ReplicaHandle)| {
            let process = replica.view().process?;
            Some((process.pid, (pool.spec.id.clone(), replica.id().clone())))
        };
        replicas.filter_map(group).collect()
    }

    /// Bytes of a GPU to be left free.
    #[must_use]
    pub fn reserved(&self, uuid: &str) -> u64 {
        let of = |pool: &Pool| pool.spec.reserved.get(uuid).copied();
        self.iter().find_map(of).unwrap_or(0)
    }

    /// Ends every engine; returns when the last is gone.
    pub async fn shut_down(&self) {
        let all = self
            .iter()
            .flat_map(|pool| &pool.replicas)
            .map(ReplicaHandle::shut_down);
        futures_util::future::join_all(all).await;
    }
}

impl Pool {
    /// What a start would use now.
    #[must_use]
    pub fn inputs(&self) -> Inputs {
        Inputs {
            model: self.model.identity(),
            engine: self.binary.identity(),
        }
    }

    /// The replica of that id.
    #[must_use]
    pub fn replica(&self, id: &ReplicaId) -> Option<&ReplicaHandle> {
        self.replicas.iter().find(|replica| replica.id() == id)
    }

    fn report(&self, draining: bool) -> PoolReport {
        let views: Vec<_> = self
            .replicas
            .iter()
            .map(|replica| (replica.id(), replica.view()))
            .collect();
        let inputs = self.reported_inputs(&views);
        let unready = unready(&views);
        PoolReport {
            pool_id: self.spec.id.clone(),
            engine: self.spec.engine,
            engine_catalog_id: None,
            engine_digest: digest(&self.binary, inputs.engine),
            model_id: self.spec.model_id.clone(),
            model_ref: self.spec.model_ref.clone(),
            model_digest: digest(&self.model, inputs.model),
            model_bytes: inputs.model.map(|model| model.size),
            ctx_max: reported_ctx(&views).unwrap_or(self.spec.ctx),
            device_mask: self.spec.devices.clone(),
            supported_workloads: self.spec.workloads.clone(),
            deterministic: self.spec.deterministic,
            generation: CONFIG_GENERATION,
            draining,
            cause: unready.as_ref().map(|why| why.cause),
            hint: unready.map(|why| why.hint),
            replicas: views.iter().map(|(id, view)| replica_report(id, view)).collect(),
        }
    }

    /// The files the pool's engines run with. A file that was replaced under a running engine is not what it
    /// serves: then nothing is claimed.
    fn reported_inputs(&self, views: &[(&ReplicaId, ReplicaView)]) -> Inputs {
        let present = self.inputs();
        let running = || {
            views
                .iter()
                .filter_map(|(_, view)| view.status.running_with.as_ref())
        };
        Inputs {
            model: present
                .model
                .filter(|now| running().all(|with| with.model == Some(*now))),
            engine: present
                .engine
                .filter(|now| running().all(|with| with.engine == Some(*now))),
        }
    }
}

fn digest(file: &WatchedFile, version: Option<FileIdentity>) -> Option<String> {
    file.digest_of(version?)
}

/// The smallest context any engine of the pool reports.
fn reported_ctx(views: &[(&ReplicaId, ReplicaView)]) -> Option<u32> {
    let facts = views.iter().filter_map(|(_, view)| view.status.facts.as_ref());
    facts.map(|facts| facts.ctx_per_slot).min()
}

/// Why no replica takes work; `None` when one does. A broken replica says more than one that merely loads.
fn unready(views: &[(&ReplicaId, ReplicaView)]) -> Option<Unready> {
    if views
        .iter()
        .any(|(_, view)| view.status.state == ReplicaState::Ready)
    {
        return None;
    }
    let causes = || views.iter().filter_map(|(_, view)| view.status.unready.as_ref());
    let broken = causes().find(|why| why.cause != UnreadyCause::Loading);
    broken.or_else(|| causes().next()).cloned()
}

fn replica_report(id: &ReplicaId, view: &ReplicaView) -> ReplicaReport {
    let status = &view.status;
    // An engine that is told to end is no address any more.
    let addressable = matches!(
        status.state,
        ReplicaState::Loading | ReplicaState::Ready | ReplicaState::Draining | ReplicaState::Preflight
    );
    let process = view.process.filter(|_| addressable);
    let key = view.current.as_ref().filter(|_| process.is_some());
    ReplicaReport {
        replica_id: id.clone(),
        state: status.state,
        generation: status.generation,
        endpoint: process.map(|process| process.endpoint()),
        endpoint_key: key.map(|output| output.key().expose_secret().to_owned()),
        slots_total: status.facts.as_ref().map(|facts| facts.slots),
        ctx_per_slot: status.facts.as_ref().map(|facts| facts.ctx_per_slot),
        engine_version: status.facts.as_ref().and_then(|facts| facts.version.clone()),
        started_ms_ago: view.starting_for().map(ms),
        load_ms: view.load_took().map(ms),
        pid: view.process.map(|process| process.pid),
        gpu_memory_bytes: view.gpu_memory,
        restarts: status.restarts,
        cause: status.unready.as_ref().map(|why| why.cause),
        last_error: status.last_error.clone(),
    }
}

const fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Takes the engines' keys out, for readers other than the orchestrator.
pub fn strip_keys(pool: &mut PoolReport) {
    for replica in &mut pool.replicas {
        replica.endpoint_key = None;
    }
}

/// The last `tail` lines of one start.
#[must_use]
pub async fn engine_log(pool: &PoolId, replica: &ReplicaId, output: &Output, tail: usize) -> EngineLog {
    EngineLog {
        pool_id: pool.clone(),
        replica_id: replica.clone(),
        generation: output.generation(),
        exit: output.end(),
        lines: output.tail(tail).await,
    }
}
