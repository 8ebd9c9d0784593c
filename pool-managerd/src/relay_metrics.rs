//! What the relay counts. Labels come from the configuration and a closed set, never from a request.

use api_types::{PoolId, ReplicaId};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What became of a request that names a pool and a replica of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The engine answers, with whatever status.
    Passed,
    /// The engine that was meant is gone.
    Moved,
    /// The engine that is meant does not serve.
    NotReady,
    /// The engine did not answer.
    Failed,
    /// The caller closed before there was an answer.
    Gone,
}

impl Outcome {
    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Moved => "moved",
            Self::NotReady => "not_ready",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// The relay's families.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    requests: IntCounterVec,
    open: IntGaugeVec,
}

impl RelayMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When two families collide.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new(
            "relay_requests_total",
            "Requests for engines of this node, by what became of them.",
        );
        let open = Opts::new(
            "relay_open_answers",
            "Answers of engines that are being passed on.",
        );
        let families = Self {
            requests: IntCounterVec::new(requests, &["pool_id", "replica_id", "outcome"])?,
            open: IntGaugeVec::new(open, &["pool_id", "replica_id"])?,
        };
        registry.register(Box::new(families.requests.clone()))?;
        registry.register(Box::new(families.open.clone()))?;
        Ok(families)
    }

    /// A request is counted when the value is dropped.
    #[must_use]
    pub fn request(&self, pool: &PoolId, replica: &ReplicaId) -> RelayedRequest {
        RelayedRequest {
            requests: self.requests.clone(),
            labels: [pool.as_str().to_owned(), replica.as_str().to_owned()],
            outcome: Outcome::Gone,
        }
    }

    /// An answer is passed on until the value is dropped.
    #[must_use]
    pub fn open(&self, pool: &PoolId, replica: &ReplicaId) -> OpenAnswer {
        let gauge = self.open.with_label_values(&[pool.as_str(), replica.as_str()]);
        gauge.inc();
        OpenAnswer(gauge)
    }
}

/// One request, gone unless something else is said.
#[derive(Debug)]
pub struct RelayedRequest {
    requests: IntCounterVec,
    labels: [String; 2],
    outcome: Outcome,
}

impl RelayedRequest {
    /// What became of it.
    pub const fn became(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for RelayedRequest {
    fn drop(&mut self) {
        let [pool, replica] = &self.labels;
        self.requests
            .with_label_values(&[pool.as_str(), replica, self.outcome.as_str()])
            .inc();
    }
}

/// One answer on its way.
#[derive(Debug)]
pub struct OpenAnswer(IntGauge);

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.dec();
    }
}
