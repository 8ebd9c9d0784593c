//! What the API shows of the dispatcher's state, and how it tells its story.

use std::collections::BTreeMap;

use api_types::capabilities::{API_VERSION, Capabilities, EngineCapability, PoolCapability};
use api_types::pool::{GpuReport, PoolHealth, PoolMetrics, PoolStatus, UnreadyCause};
use api_types::{
    EngineKind, MetricsEvent, NarrationEvent, Phase, PoolId, Priority, TaskEvent, TaskId, TaskState,
    TaskStatus,
};
use narration_core::Narration;
use orchestrator_core::eta::ServiceStats;
use orchestrator_core::queue::FullPolicy;
use tokio::time::Instant;

use super::Dispatcher;
use super::estimate::{Estimate, Moment};
use super::fleet::Pool;
use super::handle::ListFilter;
use super::loading::Loading;
use super::tasks::Task;
use crate::device_gauges::{Device, Reading};
use crate::metrics::UNKNOWN;
use crate::model_gauges::ModelState;
use crate::queue_gauges::Depths;
use crate::story;
use crate::task_log::Offered;

/// Position and estimate of a task that has not ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Live {
    /// Tasks ahead, while it waits.
    pub position: Option<u32>,
    /// Start and end.
    pub estimate: Estimate,
    /// How far its model is loaded for it, while it waits for that.
    pub loading: Option<Loading>,
}

impl Dispatcher {
    /// `GET /v1/tasks/{id}`.
    pub(super) fn status(&mut self, id: TaskId) -> Option<TaskStatus> {
        let at = self.moment(Instant::now());
        let live = self.live(id, at);
        Some(self.tasks.get(&id)?.status(id, live, at.now))
    }

    /// `GET /v1/tasks`, newest first.
    pub(super) fn list(&mut self, filter: &ListFilter) -> Vec<TaskStatus> {
        let at = self.moment(Instant::now());
        let page = self.page(filter);
        let shown = page.into_iter().filter_map(|id| {
            let live = self.live(id, at);
            Some(self.tasks.get(&id)?.status(id, live, at.now))
        });
        shown.collect()
    }

    fn page(&self, filter: &ListFilter) -> Vec<TaskId> {
        let wanted = |task: &Task| filter.state.is_none_or(|state| state == task.state);
        let mut found: Vec<(&TaskId, &Task)> = self.tasks.iter().filter(|(_, task)| wanted(task)).collect();
        found.sort_unstable_by_key(|(id, task)| std::cmp::Reverse((task.admitted.at, **id)));
        let after = filter
            .before
            .and_then(|before| found.iter().position(|(id, _)| **id == before));
        let page = found.into_iter().skip(after.map_or(0, |at| at + 1));
        page.take(filter.limit).map(|(id, _)| *id).collect()
    }

    /// Position and estimate of a live task.
    fn live(&mut self, id: TaskId, at: Moment) -> Live {
        let position = self.queue.position(&id, at.ms);
        let estimate = match position {
            Some(_) => self.estimate_waiting(&id, at),
            None => self.estimate_running(&id, at),
        };
        Live {
            position: position.map(|position| u32::try_from(position).unwrap_or(u32::MAX)),
            estimate,
            loading: position.and_then(|_| self.load_for(id)),
        }
    }

    /// A `metrics` frame to every waiting client whose numbers have changed, and to those of running
    /// tasks that have a deadline to meet.
    pub(super) fn tell_clients(&mut self) {
        let at = self.moment(Instant::now());
        let waiting: Vec<TaskId> = self.queue.order(at.ms).map(|(ticket, _)| ticket.id).collect();
        for id in waiting.into_iter().chain(self.running_against_time()) {
            self.tell_client(id, at);
        }
    }

    fn running_against_time(&self) -> Vec<TaskId> {
        let running = |task: &Task| task.state == TaskState::Running && task.deadline.is_some();
        let tasks = self.tasks.iter().filter(|(_, task)| running(task));
        tasks.map(|(id, _)| *id).collect()
    }

    fn tell_client(&mut self, id: TaskId, at: Moment) {
        if self.tasks.get(&id).is_none_or(|task| task.log.readers() == 0) {
            return;
        }
        let live = self.live(id, at);
        let Some(task) = self
            .tasks
            .get_mut(&id)
            .filter(|task| task.shown.as_ref() != Some(&live))
        else {
            return;
        };
        task.shown = Some(live.clone());
        let Some(task) = self.tasks.get(&id) else { return };
        let frame = match (live.position, task.facts()) {
            (None, Some(facts)) => self.decoding(task, facts, live.estimate, at.now),
            _ => self.queued(task, live, at.now),
        };
        self.offer(task, &TaskEvent::Metrics(frame));
    }

    fn load_for(&self, id: TaskId) -> Option<Loading> {
        let model = &self.tasks.get(&id)?.spec.needs.model_ref;
        self.fleet
            .pools()
            .find_map(|(_, pool)| Loading::of(&pool.report, model))
    }

    fn queued(&self, task: &Task, live: Live, now: Instant) -> MetricsEvent {
        let load = live.loading;
        MetricsEvent {
            loaded_bytes: load.as_ref().and_then(|load| load.done),
            load_bytes: load.as_ref().and_then(|load| load.total),
            phase: if load.is_some() {
                Phase::Loading
            } else {
                Phase::Queued
            },
            queue_position: live.position,
            predicted_start_ms: live.estimate.start_ms,
            predicted_end_ms: live.estimate.end_ms,
            queue_depth: u32::try_from(self.queue.len()).unwrap_or(u32::MAX),
            on_time_probability: live.estimate.on_time,
            kv_warmth: false,
            pool_id: load.map(|load| load.pool_id),
            replica_id: None,
            engine: None,
            engine_version: None,
            model_digest: None,
            budgets: self.budgets_of(task, now),
        }
    }

    /// Where running tasks are, into their streams, at the configured period only.
    pub(super) fn repeat_narration(&mut self, now: Instant) {
        let due = |every| now.saturating_duration_since(self.narrated_at) >= every;
        if !self.options.narrate_every.is_some_and(due) {
            return;
        }
        self.narrated_at = now;
        for (_, task) in self.tasks.iter() {
            if let (TaskState::Running, Some(facts)) = (task.state, task.facts()) {
                let tokens = task.log.progress().generated;
                let human = format!("Runs on {}: {tokens} tokens so far.", facts.pool_id);
                self.offer(task, &TaskEvent::Narration(story::event("progress", human)));
            }
        }
    }

    /// `GET /v1/pools`.
    pub(super) fn pool_statuses(&self) -> Vec<PoolStatus> {
        self.fleet
            .pools()
            .map(|(id, pool)| self.pool_status(id, pool))
            .collect()
    }

    fn pool_status(&self, id: &PoolId, pool: &Pool) -> PoolStatus {
        let report = &pool.report;
        let stats = self.planner.estimator.stats(id, &report.model_id);
        let mut replicas = report.replicas.clone();
        for replica in &mut replicas {
            // Only ever sent between the daemons.
            replica.endpoint_key = None;
        }
        PoolStatus {
            pool_id: id.clone(),
            node_id: pool.node.clone(),
            engine: report.engine,
            engine_version: version_of(pool),
            model_id: report.model_id.clone(),
            model_ref: report.model_ref.clone(),
            model_digest: report.model_digest.clone(),
            ctx_max: report.ctx_max,
            device_mask: report.device_mask.clone(),
            slots_total: pool.slots_total(),
            slots_free: pool.slots_free(),
            perf: stats.map(ServiceStats::perf_hints).unwrap_or_default(),
            health: health(pool),
            replicas,
        }
    }

    /// `GET /v1/capabilities`, from live state (ORCH-3603).
    pub(super) fn capabilities(&self) -> Capabilities {
        let ready: Vec<(&PoolId, &Pool)> = self
            .fleet
            .pools()
            .filter(|(_, pool)| pool.is_ready() || (pool.live && pool.report.unloaded))
            .collect();
        let mut engines: BTreeMap<EngineKind, Vec<String>> = BTreeMap::new();
        for (_, pool) in &ready {
            engines
                .entry(pool.report.engine)
                .or_default()
                .extend(version_of(pool));
        }
        Capabilities {
            api_version: API_VERSION.into(),
            pools: ready.iter().map(|(id, pool)| capability(id, pool)).collect(),
            engines: engines.into_iter().map(engine_capability).collect(),
        }
    }

    /// Writes a line of the task's story to the log and into its stream.
    pub(super) fn narrate(&self, id: TaskId, task: &Task, line: Narration<'_>) {
        self.offer(task, &TaskEvent::Narration(NarrationEvent::from(&line)));
        self.log_line(id, task, line);
    }

    /// Writes a line of the task's story to the log only.
    pub(super) fn log_line<'a>(&self, id: TaskId, task: &'a Task, line: Narration<'a>) {
        let session = task.request.session_id.as_ref();
        line.job_id(&id)
            .correlation_id(&task.correlation)
            .identity(&task.identity)
            .session_id(session)
            .emit();
    }

    /// The last line of a task whose log is sealed already.
    pub(super) fn narrate_end(&self, id: TaskId, action: &'static str, sentence: &'static str) {
        if let Some(task) = self.tasks.get(&id) {
            self.log_line(id, task, Narration::new("orchestratord", action, &id, sentence));
        }
    }

    /// Offers a frame that may be dropped, and counts it when it is.
    pub(super) fn offer(&self, task: &Task, frame: &TaskEvent) {
        if task.log.offer(frame) == Offered::Dropped && !task.log.is_sealed() {
            self.parts.metrics.sse_drop();
        }
    }

    pub(super) fn show_queue_depth(&mut self) {
        if self.queues_shown_for != Some(self.fleet.version()) {
            self.queues_shown_for = Some(self.fleet.version());
            let pools = self.fleet.pools();
            let pools = pools.map(|(id, pool)| (id.clone(), engine_labels(pool)));
            self.parts.queues.keep_pools(&pools.collect());
        }
        let depths = |of: &dyn Fn(Priority) -> usize| Depths {
            interactive: of(Priority::Interactive),
            batch: of(Priority::Batch),
        };
        let all = depths(&|class| self.queue.len_of(class));
        let line = |pool: &PoolId| depths(&|class| self.lines.len_of(pool, class));
        self.parts.queues.show(all, line);
    }

    pub(super) fn show_pool(&self, id: &PoolId) {
        if let Some(pool) = self.fleet.pool(id) {
            self.parts
                .metrics
                .pool(id.as_str(), pool.is_ready(), pool.leases());
        }
    }

    /// What a report changes at once: what the GPUs do, and what the models' engines hold.
    pub(super) fn show_nodes(&mut self) {
        self.show_devices();
        self.show_models(Instant::now());
    }

    /// The GPUs below the pools of the nodes that are heard of, as they reported them last.
    fn show_devices(&mut self) {
        let mut readings = BTreeMap::new();
        let nodes = self.fleet.node_statuses(Instant::now());
        for node in nodes.iter().filter(|node| node.live) {
            let pools = node.pools.iter().filter_map(|id| self.fleet.pool(id));
            for pool in pools {
                readings.extend(devices_of(pool, &node.gpus));
            }
        }
        self.parts.devices.show(readings);
    }

    /// What state the models are in, and how full the contexts of the pools are: prompts count as far as they are known.
    pub(super) fn show_models(&mut self, now: Instant) {
        let mut models = BTreeMap::new();
        let mut tokens: BTreeMap<&PoolId, u64> = BTreeMap::new();
        for (_, task) in self.tasks.iter() {
            if let Some(lease) = task.lease.as_ref().filter(|lease| lease.held) {
                let held = u64::from(task.demand.tokens_in) + u64::from(task.log.progress().generated);
                *tokens.entry(&lease.facts.pool_id).or_default() += held;
            }
        }
        let mut pools = BTreeMap::new();
        for (id, pool) in self.fleet.pools() {
            let state = match (pool.is_ready(), self.fleet.starting(id, now).is_empty()) {
                (true, _) => ModelState::Ready,
                (false, false) => ModelState::Loading,
                (false, true) => ModelState::Unavailable,
            };
            let best = models.entry(pool.report.model_id.clone()).or_insert(state);
            *best = state.max(*best);
            let room = u64::from(pool.slots_total()) * u64::from(pool.report.ctx_max);
            if room > 0 {
                let [engine, version] = engine_labels(pool);
                let held = tokens.get(id).copied().unwrap_or(0);
                // A prompt that was not counted is taken as the estimates take it.
                let ratio = (held as f64 / room as f64).min(1.0);
                pools.insert([engine, version, id.to_string()], ratio);
            }
        }
        self.parts.models.show(models, pools);
    }

    pub(super) const fn policy_name(&self) -> &'static str {
        match self.options.queue.full_policy {
            FullPolicy::Reject => "reject",
            FullPolicy::DropLru => "drop-lru",
        }
    }
}

/// The GPUs of a pool's mask.
fn devices_of<'a>(pool: &'a Pool, gpus: &'a [GpuReport]) -> impl Iterator<Item = (Device, Reading)> + 'a {
    let report = &pool.report;
    let [engine, version] = engine_labels(pool);
    let own = gpus.iter().filter(|gpu| report.device_mask.contains(&gpu.uuid));
    own.map(move |gpu| {
        let device = [
            engine.clone(),
            version.clone(),
            report.pool_id.to_string(),
            gpu.uuid.clone(),
        ];
        (device, Reading::from(gpu))
    })
}

fn engine_labels(pool: &Pool) -> [String; 2] {
    let version = version_of(pool).unwrap_or_else(|| UNKNOWN.into());
    [pool.report.engine.to_string(), version]
}

fn version_of(pool: &Pool) -> Option<String> {
    pool.report
        .replicas
        .iter()
        .find_map(|replica| replica.engine_version.clone())
}

fn health(pool: &Pool) -> PoolHealth {
    let report = &pool.report;
    PoolHealth {
        live: pool.live,
        ready: pool.is_ready(),
        draining: report.draining,
        generation: report.generation,
        cause: if pool.live {
            report.cause
        } else {
            Some(UnreadyCause::NodeStale)
        },
        hint: report.hint.clone(),
        last_error: report
            .replicas
            .iter()
            .find_map(|replica| replica.last_error.clone()),
        last_operation: report.operation.clone(),
        metrics: PoolMetrics {
            slots_total: pool.slots_total(),
            slots_free: pool.slots_free(),
            active_leases: pool.leases(),
            restarts: report.replicas.iter().map(|replica| replica.restarts).sum(),
        },
    }
}

fn capability(id: &PoolId, pool: &Pool) -> PoolCapability {
    let report = &pool.report;
    PoolCapability {
        pool_id: id.clone(),
        node_id: pool.node.clone(),
        engine: report.engine,
        engine_version: version_of(pool),
        model_id: report.model_id.clone(),
        loadable_models: report.loadable().map(|model| model.model_id.clone()).collect(),
        ctx_max: report.ctx_max,
        max_tokens_out: None,
        slots_total: pool.slots_total(),
        supported_workloads: report.supported_workloads.clone(),
        features: features(report.engine),
        rate_limits: Vec::new(),
        deterministic: report.deterministic,
    }
}

/// What the adapter of an engine passes on.
fn features(engine: EngineKind) -> Vec<String> {
    let names: &[&str] = match engine {
        EngineKind::Llamacpp => &["seed", "stop", "min_p", "kv_reuse"],
        EngineKind::Vllm | EngineKind::Tgi | EngineKind::Triton | EngineKind::Openai => &["seed", "stop"],
    };
    names.iter().map(ToString::to_string).collect()
}

fn engine_capability((engine, mut versions): (EngineKind, Vec<String>)) -> EngineCapability {
    versions.sort_unstable();
    versions.dedup();
    EngineCapability {
        engine,
        engine_versions: versions,
    }
}
