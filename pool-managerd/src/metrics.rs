//! The daemon's metric families. Each is moved by the event it counts; a scrape only reads. Labels come from
//! closed sets, the configuration and the hardware.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_types::pool::{GpuReport, UnreadyCause};
use api_types::{PoolId, ReplicaId};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::gpu::GpuState;

/// The families of this daemon.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    gpu: GpuGauges,
    gpu_probes: IntCounterVec,
    pool_ready: IntGaugeVec,
    engine_restarts: IntCounterVec,
    engine_exits: IntCounterVec,
    engine_load: HistogramVec,
    heartbeats: IntCounterVec,
}

/// Seconds from start to ready: a tiny model on a warm disk to a huge one on a slow disk.
const LOAD_SECONDS: [f64; 12] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
];

impl Metrics {
    /// Makes and registers every family.
    ///
    /// # Errors
    /// When two families collide.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let load = HistogramOpts::new(
            "engine_load_seconds",
            "From the start of an engine to its readiness.",
        )
        .buckets(LOAD_SECONDS.to_vec());
        Ok(Self {
            gpu: GpuGauges::new(&registry)?,
            gpu_probes: counter(
                &registry,
                "gpu_probes_total",
                "Looks at the GPUs, by result.",
                &["result"],
            )?,
            pool_ready: gauge(
                &registry,
                "pool_ready",
                "1 while a pool takes work, else 0.",
                &["pool_id"],
            )?,
            engine_restarts: counter(
                &registry,
                "engine_restarts_total",
                "Engine starts after the first.",
                &["pool_id", "replica_id"],
            )?,
            engine_exits: counter(
                &registry,
                "engine_exits_total",
                "Engines that ended by themselves, by cause.",
                &["pool_id", "replica_id", "cause"],
            )?,
            engine_load: registered(&registry, HistogramVec::new(load, &["pool_id"])?)?,
            heartbeats: counter(
                &registry,
                "heartbeats_total",
                "Reports to the orchestrator, by outcome.",
                &["outcome"],
            )?,
            registry,
        })
    }

    /// Where the families of other parts of the daemon go.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text form of every family, for a scraper.
    ///
    /// # Errors
    /// When a family cannot be written.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// A look at the GPUs came back.
    pub fn gpus_sampled(&self, state: &GpuState) {
        let result = if state.is_ok() { "ok" } else { "failed" };
        self.gpu_probes.with_label_values(&[result]).inc();
        let gpus = state.as_ref().map_or(&[][..], |inventory| &inventory.gpus);
        self.gpu.show(gpus);
    }

    /// Whether a pool takes work.
    pub fn pool_ready(&self, pool: &PoolId, ready: bool) {
        self.pool_ready
            .with_label_values(&[pool.as_str()])
            .set(ready.into());
    }

    /// The counters of one replica, resolved once.
    #[must_use]
    pub fn replica(&self, pool: &PoolId, replica: &ReplicaId) -> ReplicaMetrics {
        let labels = [pool.as_str(), replica.as_str()];
        ReplicaMetrics {
            restarts: self.engine_restarts.with_label_values(&labels),
            load: self.engine_load.with_label_values(&labels[..1]),
            exits: self.engine_exits.clone(),
            labels: labels.map(str::to_owned),
        }
    }

    /// A report to the orchestrator was answered, or not.
    pub fn reported(&self, outcome: &str) {
        self.heartbeats.with_label_values(&[outcome]).inc();
    }
}

/// The counters of one replica.
#[derive(Debug, Clone)]
pub struct ReplicaMetrics {
    restarts: IntCounter,
    load: Histogram,
    exits: IntCounterVec,
    labels: [String; 2],
}

impl ReplicaMetrics {
    /// An engine is started again.
    pub fn restarted(&self) {
        self.restarts.inc();
    }

    /// An engine became ready.
    pub fn loaded(&self, after: Duration) {
        self.load.observe(after.as_secs_f64());
    }

    /// An engine ended by itself.
    pub fn ended(&self, cause: UnreadyCause) {
        let [pool, replica] = &self.labels;
        self.exits
            .with_label_values(&[pool, replica, &cause_name(cause)])
            .inc();
    }
}

/// The wire name of a cause.
#[must_use]
pub fn cause_name(cause: UnreadyCause) -> String {
    match serde_json::to_value(cause) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{cause:?}"),
    }
}

/// What NVML reads, by card. Remembers which cards are shown, so that a card that went away leaves no frozen
/// values.
#[derive(Debug, Clone)]
struct GpuGauges {
    utilization: IntGaugeVec,
    used: IntGaugeVec,
    total: IntGaugeVec,
    temperature: IntGaugeVec,
    power: IntGaugeVec,
    shown: Arc<Mutex<BTreeSet<String>>>,
}

impl GpuGauges {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let of = |name, help| gauge(registry, name, help, &["device"]);
        Ok(Self {
            utilization: of("gpu_utilization", "Busy share of a GPU, percent.")?,
            used: of("vram_used_bytes", "GPU memory in use by all programs.")?,
            total: of("vram_total_bytes", "GPU memory.")?,
            temperature: of("gpu_temperature_celsius", "GPU temperature.")?,
            power: of("gpu_power_milliwatts", "GPU power draw.")?,
            shown: Arc::default(),
        })
    }

    fn show(&self, gpus: &[GpuReport]) {
        let present: BTreeSet<String> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&present) {
            self.all().into_iter().for_each(|family| remove(family, gone));
        }
        *shown = present;
        for gpu in gpus {
            let uuid = gpu.uuid.as_str();
            set(&self.used, uuid, Some(gpu.memory_used_bytes));
            set(&self.total, uuid, Some(gpu.memory_total_bytes));
            set(&self.utilization, uuid, gpu.utilization_percent.map(u64::from));
            set(&self.temperature, uuid, gpu.temperature_c.map(u64::from));
            set(&self.power, uuid, gpu.power_mw.map(u64::from));
        }
    }

    fn all(&self) -> [&IntGaugeVec; 5] {
        [
            &self.utilization,
            &self.used,
            &self.total,
            &self.temperature,
            &self.power,
        ]
    }
}

/// A reading that the card does not give is not shown.
fn set(family: &IntGaugeVec, device: &str, value: Option<u64>) {
    match value {
        Some(value) => family
            .with_label_values(&[device])
            .set(i64::try_from(value).unwrap_or(i64::MAX)),
        None => remove(family, device),
    }
}

fn remove(family: &IntGaugeVec, device: &str) {
    // The only failure is that it was not shown.
    let _shown_before = family.remove_label_values(&[device]);
}

fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, family: C) -> prometheus::Result<C> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{DriverError, GpuInventory};
    use api_types::pool::DriverReport;

    fn gpu(uuid: &str, power_mw: Option<u32>) -> GpuReport {
        GpuReport {
            uuid: uuid.into(),
            index: 0,
            name: "test".into(),
            compute_capability: "8.6".into(),
            memory_total_bytes: 100,
            memory_free_bytes: 60,
            memory_used_bytes: 40,
            utilization_percent: Some(7),
            temperature_c: None,
            power_mw,
            ..GpuReport::default()
        }
    }

    fn inventory(gpus: Vec<GpuReport>) -> GpuState {
        Ok(Arc::new(GpuInventory {
            driver: DriverReport {
                driver_version: "1".into(),
                cuda_version: "1.0".into(),
            },
            gpus,
            mig: Vec::new(),
            faults: Vec::new(),
        }))
    }

    #[test]
    fn a_card_that_goes_away_leaves_no_values() {
        let metrics = Metrics::new().unwrap();
        metrics.gpus_sampled(&inventory(vec![gpu("GPU-a", Some(9)), gpu("GPU-b", None)]));
        let text = metrics.render().unwrap();
        assert!(text.contains("vram_used_bytes{device=\"GPU-a\"} 40"), "{text}");
        assert!(
            text.contains("gpu_power_milliwatts{device=\"GPU-a\"} 9"),
            "{text}"
        );
        assert!(
            !text.contains("gpu_temperature_celsius{"),
            "an absent reading was invented: {text}"
        );
        metrics.gpus_sampled(&inventory(vec![gpu("GPU-b", None)]));
        let text = metrics.render().unwrap();
        assert!(!text.contains("GPU-a") && text.contains("GPU-b"), "{text}");
        metrics.gpus_sampled(&Err(DriverError::DriverNotLoaded));
        let text = metrics.render().unwrap();
        assert!(!text.contains("GPU-b"), "{text}");
        assert!(text.contains("gpu_probes_total{result=\"failed\"} 1"), "{text}");
    }

    #[test]
    fn a_scrape_only_reads() {
        let metrics = Metrics::new().unwrap();
        let pool = PoolId::new("p").unwrap();
        metrics
            .replica(&pool, &ReplicaId::new("r0").unwrap())
            .ended(UnreadyCause::VramOom);
        let first = metrics.render().unwrap();
        assert!(
            first.contains("engine_exits_total{cause=\"VRAM_OOM\",pool_id=\"p\",replica_id=\"r0\"} 1"),
            "{first}"
        );
        assert_eq!(first, metrics.render().unwrap());
    }
}
