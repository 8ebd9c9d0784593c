//! The node's pools (ORCH-3420): what each is made of and how it fares now. Built once from the
//! configuration; everything that changes is read through watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_types::link::EngineLog;
use api_types::operation::DesiredPool;
use api_types::pool::{PoolModel, PoolReport, ReplicaReport, ReplicaState, Residency, UnreadyCause};
use api_types::{EngineKind, PoolId, ReplicaId, Workload};
use indexmap::IndexMap;
use narration_core::wall;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::engine::output::Output;
use crate::facts::{FileIdentity, Inputs, WatchedFile};
use crate::learner::CacheTypes;
use crate::models::{Models, ServedModel};
use crate::replica::{ReplicaHandle, ReplicaView};
use crate::rollout::{Rollout, Side, SideGoal};
use crate::source::EngineSource;
use crate::trouble::Unready;

/// What a pool is, as configured.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// Its id.
    pub id: PoolId,
    /// Its engine.
    pub engine: EngineKind,
    /// GPU UUIDs.
    pub devices: Vec<String>,
    /// Bytes to be left free, by GPU.
    pub reserved: Arc<BTreeMap<String, u64>>,
    /// What it serves; its engines are started for it and asked about it before they count as ready.
    pub workloads: Vec<Workload>,
    /// Context per slot, tokens.
    pub ctx: u32,
    /// The types of its KV cache; `None` where its arguments ask for one that is not known here.
    pub cache: Option<CacheTypes>,
    /// Whether its settings make output reproducible.
    pub deterministic: bool,
    /// How long a start may be held up by what may pass.
    pub patience: Duration,
    /// How long a model that could not be loaded is not loaded for the sake of a task.
    pub retry_after: Duration,
    /// When it makes room for others.
    pub residency: Residency,
}

/// One pool.
#[derive(Debug)]
pub struct Pool {
    /// As configured.
    pub spec: PoolSpec,
    /// What it can serve.
    pub models: Models,
    /// What its engines are started from.
    pub source: EngineSource,
    /// Its engines, by side.
    pub sides: [Vec<ReplicaHandle>; 2],
    /// What it serves. Written by the reconcile loop only.
    pub rollout: watch::Sender<Rollout>,
    /// The latest operation that is recorded.
    pub recorded: watch::Receiver<u64>,
}

/// What the orchestrator has told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// The latest operation on each pool.
    pub operations: BTreeMap<PoolId, DesiredPool>,
    /// Tasks on the replicas that were reported as taking no new work.
    pub leases: BTreeMap<(PoolId, ReplicaId), u32>,
}

/// All pools, in the order of the configuration.
#[derive(Debug, Clone)]
pub struct Pools {
    pools: Arc<IndexMap<PoolId, Pool>>,
    orders: watch::Receiver<Orders>,
}

impl Pools {
    /// The pools and what is told of them.
    #[must_use]
    pub fn new(pools: impl IntoIterator<Item = Pool>, orders: watch::Receiver<Orders>) -> Self {
        let keyed = pools.into_iter().map(|pool| (pool.spec.id.clone(), pool));
        Self {
            pools: Arc::new(keyed.collect()),
            orders,
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

    /// What the orchestrator has told, to wait for its changes.
    #[must_use]
    pub fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.clone()
    }

    /// The full state of every pool, with the engines' keys.
    #[must_use]
    pub fn report(&self) -> Vec<PoolReport> {
        self.iter().map(Pool::report).collect()
    }

    /// Whose engine is which process group.
    #[must_use]
    pub fn engines(&self) -> BTreeMap<u32, (PoolId, ReplicaId)> {
        let replicas = self
            .iter()
            .flat_map(|pool| pool.replicas().map(move |replica| (pool, replica)));
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
        let all = self.iter().flat_map(Pool::replicas).map(ReplicaHandle::shut_down);
        futures_util::future::join_all(all).await;
    }
}

impl Pool {
    /// Every replica.
    pub fn replicas(&self) -> impl Iterator<Item = &ReplicaHandle> {
        self.sides.iter().flatten()
    }

    /// What a start with this model would use now.
    #[must_use]
    pub fn inputs(&self, model: &ServedModel) -> Inputs {
        Inputs {
            model: model.file.identity(),
            engine: self.source.identity(),
        }
    }

    /// The replica of that id.
    #[must_use]
    pub fn replica(&self, id: &ReplicaId) -> Option<&ReplicaHandle> {
        self.replicas().find(|replica| replica.id() == id)
    }

    /// The full state, with the engines' keys.
    #[must_use]
    pub fn report(&self) -> PoolReport {
        let rollout = self.rollout.borrow().clone();
        let serving = self.models.get(rollout.model());
        let sides = self.seen(&rollout);
        let shown = || sides.iter().flatten();
        let takers: Vec<&Seen<'_>> = shown().filter(|seen| seen.role == Role::Serves).collect();
        let inputs = self.reported_inputs(&serving, &takers);
        let unready = unready(&rollout, &takers);
        PoolReport {
            pool_id: self.spec.id.clone(),
            engine: self.spec.engine,
            engine_catalog_id: None,
            engine_digest: inputs.engine.and_then(|engine| self.source.digest_of(engine)),
            model_id: serving.choice.model_id.clone(),
            model_ref: serving.choice.model_ref.clone(),
            model_digest: digest(&serving.file, inputs.model),
            model_bytes: inputs.model.map(|model| model.size),
            ctx_max: reported_ctx(&takers).unwrap_or(self.spec.ctx),
            device_mask: self.spec.devices.clone(),
            supported_workloads: self.spec.workloads.clone(),
            deterministic: self.spec.deterministic,
            generation: rollout.changes(),
            draining: rollout.refuses_work(),
            unloaded: rollout.is_unloaded(),
            models: self.reported_models(&rollout, &serving),
            residency: self.spec.residency,
            operation_generation: *self.recorded.borrow(),
            operation: rollout.status(),
            cause: unready.as_ref().map(|why| why.cause),
            hint: unready.map(|why| why.hint),
            replicas: shown().map(replica_report).collect(),
        }
    }

    /// The replicas that have something to show, with what they are to the pool.
    fn seen(&self, rollout: &Rollout) -> [Vec<Seen<'_>>; 2] {
        let goals = rollout.goals();
        let of = |side: Side| {
            let role = Role::of(&goals[side.index()], side == rollout.serving());
            let replicas = self.sides[side.index()].iter();
            let seen = replicas.map(move |replica| Seen {
                id: replica.id(),
                view: replica.view(),
                role,
            });
            seen.filter(Seen::is_shown).collect()
        };
        Side::BOTH.map(of)
    }

    /// What is served, or was last, comes first.
    fn reported_models(&self, rollout: &Rollout, serving: &Arc<ServedModel>) -> Vec<PoolModel> {
        let now_ms = wall::unix_ms();
        let others = self.models.configured().iter().filter(|model| *model != serving);
        std::iter::once(serving)
            .chain(others)
            .map(|model| PoolModel {
                model_id: model.choice.model_id.clone(),
                model_ref: model.choice.model_ref.clone(),
                bytes: model.file.identity().map(|identity| identity.size),
                weight_bytes: model.file.weights(),
                fetch: model.file.fetch(),
                load_failed: rollout.failed_load(&model.choice, now_ms).map(str::to_owned),
            })
            .collect()
    }

    /// The files the pool's engines run with. A file that was replaced under a running engine is not what it
    /// serves: then nothing is claimed.
    fn reported_inputs(&self, model: &ServedModel, takers: &[&Seen<'_>]) -> Inputs {
        let present = self.inputs(model);
        let running = || {
            takers
                .iter()
                .filter_map(|seen| seen.view.status.running_with.as_ref())
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

/// What a replica is to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Tasks are sent there.
    Serves,
    /// They will be, once all of its side is ready.
    Prepares,
    /// It finishes what it has.
    Finishes,
    /// It is not needed.
    Rests,
}

impl Role {
    const fn of(goal: &SideGoal, serves: bool) -> Self {
        match goal {
            SideGoal::Run(_) => Self::Serves,
            SideGoal::Prepare(_) => Self::Prepares,
            SideGoal::Finish(_) => Self::Finishes,
            // The side that would serve is shown, to tell why it does not.
            SideGoal::Stop if serves => Self::Finishes,
            SideGoal::Stop => Self::Rests,
        }
    }

    /// What the orchestrator may make of a state. A replica is sent no tasks unless its side serves, whatever it could
    /// do; it may not have heard of its role yet.
    const fn masked(self, state: ReplicaState) -> ReplicaState {
        match (self, state) {
            (Self::Prepares, ReplicaState::Ready) => ReplicaState::Loading,
            (Self::Finishes | Self::Rests, ReplicaState::Ready) => ReplicaState::Draining,
            _ => state,
        }
    }
}

/// A replica as it is reported.
struct Seen<'a> {
    id: &'a ReplicaId,
    view: ReplicaView,
    role: Role,
}

impl Seen<'_> {
    fn state(&self) -> ReplicaState {
        self.role.masked(self.view.status.state)
    }

    fn is_shown(&self) -> bool {
        let rests = matches!(
            self.view.status.state,
            ReplicaState::Stopped | ReplicaState::Preflight
        );
        self.role != Role::Rests || !rests
    }
}

fn digest(file: &WatchedFile, version: Option<FileIdentity>) -> Option<String> {
    file.digest_of(version?)
}

/// The smallest context any engine of the pool reports.
fn reported_ctx(takers: &[&Seen<'_>]) -> Option<u32> {
    let facts = takers.iter().filter_map(|seen| seen.view.status.facts.as_ref());
    facts.map(|facts| facts.ctx_per_slot).min()
}

/// Why no replica takes work; `None` when one does. A broken replica says more than one that merely loads.
fn unready(rollout: &Rollout, takers: &[&Seen<'_>]) -> Option<Unready> {
    if rollout.refuses_work() {
        return Some(Unready::of(UnreadyCause::Draining));
    }
    if rollout.is_unloaded() {
        return Some(unloaded(rollout));
    }
    if takers.iter().any(|seen| seen.state() == ReplicaState::Ready) {
        return None;
    }
    let causes = || takers.iter().filter_map(|seen| seen.view.status.unready.as_ref());
    let broken = causes().find(|why| why.cause != UnreadyCause::Loading);
    let present = broken.or_else(|| causes().next()).cloned();
    Some(present.unwrap_or_else(|| Unready::of(UnreadyCause::Loading)))
}

fn unloaded(rollout: &Rollout) -> Unready {
    match rollout.failed_load(rollout.model(), wall::unix_ms()) {
        Some(why) => Unready::new(UnreadyCause::RestartBudgetExhausted, why),
        None => Unready::new(UnreadyCause::Stopped, "loaded when a task asks for it"),
    }
}

fn replica_report(seen: &Seen<'_>) -> ReplicaReport {
    let (view, state) = (&seen.view, seen.state());
    let status = &view.status;
    // An engine that is told to end is no address any more.
    let addressable = matches!(
        state,
        ReplicaState::Loading | ReplicaState::Ready | ReplicaState::Draining | ReplicaState::Preflight
    );
    let process = view.process.filter(|_| addressable);
    let key = view.current.as_ref().filter(|_| process.is_some());
    ReplicaReport {
        replica_id: seen.id.clone(),
        state,
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
