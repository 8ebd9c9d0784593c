//! Metric families of the host, and the handles of one replica, resolved once.
//!
//! Labels come from configuration (`pool_id`, `replica_id`) and closed sets (`engine`, `kind`): per replica one series of
//! each family, and of `adapter_failures_total` one per kind.

use adapter_api::AdapterErrorKind;
use api_types::EngineKind;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::registry::Target;

const REPLICA: [&str; 3] = ["engine", "pool_id", "replica_id"];

/// The families. Registered once per process.
pub(crate) struct Families {
    submits: IntCounterVec,
    failures: IntCounterVec,
    trips: IntCounterVec,
}

impl Families {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let [engine, pool_id, replica_id] = REPLICA;
        Ok(Self {
            submits: counter(
                "adapter_submits_total",
                "Generations sent to an engine.",
                &REPLICA,
            )?,
            failures: counter(
                "adapter_failures_total",
                "Generations that failed at an engine, before or in their stream.",
                &[engine, pool_id, replica_id, "kind"],
            )?,
            trips: counter(
                "breaker_trips_total",
                "Times an engine was left alone after repeated failures.",
                &REPLICA,
            )?,
        })
    }

    pub(crate) fn replica(&self, target: &Target, engine: EngineKind) -> ReplicaMetrics {
        let labels = [engine.as_str(), target.pool.as_str(), target.replica.as_str()];
        let [engine, pool, replica] = labels;
        ReplicaMetrics {
            submits: self.submits.with_label_values(&labels),
            failures: AdapterErrorKind::ALL.map(|kind| {
                self.failures
                    .with_label_values(&[engine, pool, replica, kind.as_str()])
            }),
            trips: self.trips.with_label_values(&labels),
        }
    }
}

/// One replica's counters.
pub(crate) struct ReplicaMetrics {
    pub(crate) submits: IntCounter,
    failures: [IntCounter; AdapterErrorKind::ALL.len()],
    pub(crate) trips: IntCounter,
}

impl ReplicaMetrics {
    /// The counter of failures of this kind. `ALL` is in declaration order, so the discriminant is the place.
    pub(crate) fn failures(&self, kind: AdapterErrorKind) -> &IntCounter {
        &self.failures[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_counter() {
        let registry = Registry::new();
        let families = Families::register(&registry).unwrap();
        let target = Target::new("pool".parse().unwrap(), "r0".parse().unwrap());
        let metrics = families.replica(&target, EngineKind::Llamacpp);
        for (n, kind) in AdapterErrorKind::ALL.into_iter().enumerate() {
            metrics.failures(kind).inc_by(n as u64 + 1);
            let labels = ["llamacpp", "pool", "r0", kind.as_str()];
            assert_eq!(families.failures.with_label_values(&labels).get(), n as u64 + 1);
        }
    }

    #[test]
    fn a_second_host_on_one_registry_is_refused() {
        let registry = Registry::new();
        assert!(Families::register(&registry).is_ok());
        assert!(Families::register(&registry).is_err());
    }
}
