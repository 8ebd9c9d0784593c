//! The metric families of artifacts. Every value of a label is there from the start.

use api_types::ArtifactKind;
use prometheus::{IntCounterVec, Opts, Registry};

/// What is counted about artifacts.
pub(super) struct Families {
    stored: IntCounterVec,
    removed: IntCounterVec,
    missed: IntCounterVec,
}

impl Families {
    /// Registers the families with every value of their labels.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name: &str, help: &str, label: &str, values: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            for value in values {
                family.with_label_values(&[value]);
            }
            Ok::<_, prometheus::Error>(family)
        };
        let kinds: Vec<&str> = ArtifactKind::ALL.iter().map(|kind| kind.as_str()).collect();
        Ok(Self {
            stored: family(
                "artifacts_stored_total",
                "Artifacts stored, traces included",
                "artifact_kind",
                &kinds,
            )?,
            removed: family(
                "artifacts_removed_total",
                "Artifacts removed to keep to a bound",
                "bound",
                &["age", "size"],
            )?,
            missed: family(
                "traces_missed_total",
                "Tasks that ended without a trace",
                "cause",
                &["disk_full", "io", "secret", "size"],
            )?,
        })
    }

    pub(super) fn stored(&self, kind: ArtifactKind) {
        self.stored.with_label_values(&[kind.as_str()]).inc();
    }

    pub(super) fn removed(&self, bound: &str, count: usize) {
        self.removed.with_label_values(&[bound]).inc_by(count as u64);
    }

    pub(super) fn missed(&self, cause: &str) {
        self.missed.with_label_values(&[cause]).inc();
    }
}
