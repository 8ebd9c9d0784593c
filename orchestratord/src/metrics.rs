//! Metric families of the orchestrator, exactly those of `ci/metrics.lint.json`. Handles are
//! resolved when a task is placed, never per token; labels come from closed sets or configuration.
//! A scrape only reads.

use api_types::{EndEvent, Priority};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::receipt::RunFacts;

/// Label value where a task is not placed yet, or an engine tells no version.
pub const UNKNOWN: &str = "unknown";

const FIRST_TOKEN_BUCKETS_MS: &[f64] = &[
    50., 100., 150., 200., 300., 500., 750., 1000., 1500., 2000., 3000.,
];
const DECODE_BUCKETS_MS: &[f64] = &[
    250., 500., 1000., 1500., 2000., 3000., 4000., 6000., 8000., 12000.,
];
const START_ERROR_BUCKETS_MS: &[f64] = &[10., 50., 100., 250., 500., 1000., 2500., 5000., 15000., 60000.];

/// Every family, registered once.
#[derive(Clone)]
pub struct Metrics {
    /// The registry a scrape reads; adapter-host registers its own families here.
    pub registry: Registry,
    enqueued: IntCounterVec,
    started: IntCounterVec,
    canceled: IntCounterVec,
    rejected: IntCounterVec,
    tokens_in: IntCounterVec,
    tokens_out: IntCounterVec,
    backpressure: IntCounterVec,
    placements: IntCounterVec,
    sse_drops: IntCounter,
    candidates: IntGaugeVec,
    pool_ready: IntGaugeVec,
    leases: IntGaugeVec,
    first_token: HistogramVec,
    decode: HistogramVec,
    start_error: Histogram,
}

impl Metrics {
    /// Registers every family.
    ///
    /// # Errors
    /// When a family is registered twice or its name is malformed.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let replica = &["engine", "engine_version", "pool_id", "replica_id"];
        let run = &["engine", "engine_version", "pool_id", "replica_id", "priority"];
        let canceled = &[
            "engine",
            "engine_version",
            "pool_id",
            "replica_id",
            "priority",
            "reason",
        ];
        let pool = &["engine", "engine_version", "pool_id", "priority"];
        Ok(Self {
            enqueued: counter(r, "tasks_enqueued_total", "Tasks admitted to the queue", run)?,
            started: counter(r, "tasks_started_total", "Tasks that were given a slot", run)?,
            canceled: counter(
                r,
                "tasks_canceled_total",
                "Tasks that ended by a cancel",
                canceled,
            )?,
            rejected: counter(
                r,
                "tasks_rejected_total",
                "Tasks refused at admission",
                &["engine", "reason"],
            )?,
            tokens_in: counter(r, "tokens_in_total", "Prompt tokens of ended tasks", replica)?,
            tokens_out: counter(r, "tokens_out_total", "Generated tokens of ended tasks", replica)?,
            backpressure: counter(
                r,
                "admission_backpressure_events_total",
                "Admissions that met a full queue",
                &["engine", "policy"],
            )?,
            placements: counter(
                r,
                "placement_decisions_total",
                "Decisions of the placement policy",
                &["outcome", "pinned", "fallback"],
            )?,
            sse_drops: plain_counter(
                r,
                "sse_backpressure_drops_total",
                "Metrics and narration frames left out because a reader lagged",
            )?,
            candidates: gauge(
                r,
                "placement_candidates_considered",
                "Pools the last decision looked at",
                &[],
            )?,
            pool_ready: gauge(
                r,
                "pool_ready",
                "1 while new work may be placed on the pool",
                &["pool_id"],
            )?,
            leases: gauge(r, "active_leases", "Slots leased now", &["pool_id"])?,
            first_token: histogram(
                r,
                "latency_first_token_ms",
                "Slot to first token, ms",
                FIRST_TOKEN_BUCKETS_MS,
                pool,
            )?,
            decode: histogram(
                r,
                "latency_decode_ms",
                "First token to last, ms",
                DECODE_BUCKETS_MS,
                pool,
            )?,
            start_error: plain_histogram(
                r,
                "predicted_start_error_ms",
                "Distance between the predicted and the real start, ms",
                START_ERROR_BUCKETS_MS,
            )?,
            registry,
        })
    }

    /// A task was admitted; `facts` when the policy already knows where it would go.
    pub fn task_enqueued(&self, labels: &PoolLabels, priority: Priority) {
        self.enqueued.with_label_values(&labels.run(priority)).inc();
    }

    /// A task was given a slot.
    pub fn task_started(&self, labels: &PoolLabels, priority: Priority) {
        self.started.with_label_values(&labels.run(priority)).inc();
    }

    /// A task was cancelled.
    pub fn task_canceled(&self, labels: &PoolLabels, priority: Priority, reason: &'static str) {
        self.canceled
            .with_label_values(&[
                &labels.engine,
                &labels.version,
                &labels.pool,
                &labels.replica,
                priority.as_str(),
                reason,
            ])
            .inc();
    }

    /// A task was refused.
    pub fn task_rejected(&self, engine: &str, reason: &'static str) {
        self.rejected.with_label_values(&[engine, reason]).inc();
    }

    /// An admission met a full queue.
    pub fn backpressure(&self, engine: &str, policy: &'static str) {
        self.backpressure.with_label_values(&[engine, policy]).inc();
    }

    /// The policy decided.
    pub fn placement(&self, outcome: &'static str, pinned: bool, fallback: bool, candidates: usize) {
        let flag = |set: bool| if set { "true" } else { "false" };
        self.placements
            .with_label_values(&[outcome, flag(pinned), flag(fallback)])
            .inc();
        self.candidates
            .with_label_values(&[] as &[&str])
            .set(i64::try_from(candidates).unwrap_or(i64::MAX));
    }

    /// A metrics or narration frame was left out.
    pub fn sse_drop(&self) {
        self.sse_drops.inc();
    }

    /// A task that ran has ended.
    pub fn run_ended(&self, labels: &PoolLabels, priority: Priority, end: &EndEvent) {
        let replica = labels.replica();
        self.tokens_in
            .with_label_values(&replica)
            .inc_by(u64::from(end.tokens_in));
        self.tokens_out
            .with_label_values(&replica)
            .inc_by(u64::from(end.tokens_out));
        let pool = [
            &*labels.engine,
            &*labels.version,
            &*labels.pool,
            priority.as_str(),
        ];
        if let Some(ms) = end.first_token_ms {
            self.first_token.with_label_values(&pool).observe(ms as f64);
            self.decode
                .with_label_values(&pool)
                .observe(end.decode_time_ms as f64);
        }
    }

    /// How far a prediction was off.
    pub fn start_error(&self, error_ms: u64) {
        self.start_error.observe(error_ms as f64);
    }

    /// Whether a pool takes work and how many slots are leased.
    pub fn pool(&self, pool: &str, ready: bool, leases: u32) {
        self.pool_ready.with_label_values(&[pool]).set(i64::from(ready));
        self.leases.with_label_values(&[pool]).set(i64::from(leases));
    }

    /// A pool is gone from its node's configuration.
    pub fn pool_gone(&self, pool: &str) {
        // An error means that no series of the pool exists, which is what is wanted.
        let _unknown = self.pool_ready.remove_label_values(&[pool]);
        let _unknown = self.leases.remove_label_values(&[pool]);
    }

    /// The text exposition.
    ///
    /// # Errors
    /// When a family cannot be encoded.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

/// The label values of one replica, as text.
#[derive(Debug, Clone)]
pub struct PoolLabels {
    engine: String,
    version: String,
    pool: String,
    replica: String,
}

impl PoolLabels {
    /// engine, engine_version, pool_id, replica_id.
    fn replica(&self) -> [&str; 4] {
        [&self.engine, &self.version, &self.pool, &self.replica]
    }

    /// The same and the priority.
    fn run(&self, priority: Priority) -> [&str; 5] {
        [
            &self.engine,
            &self.version,
            &self.pool,
            &self.replica,
            priority.as_str(),
        ]
    }

    /// Labels of a run.
    #[must_use]
    pub fn of(facts: &RunFacts) -> Self {
        Self {
            engine: facts.engine.to_string(),
            version: facts.engine_version.clone().unwrap_or_else(|| UNKNOWN.into()),
            pool: facts.pool_id.to_string(),
            replica: facts.replica_id.to_string(),
        }
    }

    /// Labels of a task that has no slot yet.
    #[must_use]
    pub fn unplaced(engine: Option<api_types::EngineKind>, pool: Option<&api_types::PoolId>) -> Self {
        Self {
            engine: engine.map_or(UNKNOWN, api_types::EngineKind::as_str).into(),
            version: UNKNOWN.into(),
            pool: pool.map_or_else(|| UNKNOWN.into(), ToString::to_string),
            replica: UNKNOWN.into(),
        }
    }
}

fn counter(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let family = IntCounterVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(family.clone()))?;
    Ok(family)
}

fn plain_counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let family = IntCounter::new(name, help)?;
    r.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(family.clone()))?;
    Ok(family)
}

fn histogram(
    r: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec, prometheus::Error> {
    let family = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?;
    r.register(Box::new(family.clone()))?;
    Ok(family)
}

fn plain_histogram(
    r: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let family = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
    r.register(Box::new(family.clone()))?;
    Ok(family)
}
