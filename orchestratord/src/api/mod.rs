//! The HTTP routes: thin handlers. Parse once into types, call one method, map one outcome.

mod admission;
mod artifacts;
mod common_answers;
mod control;
mod engine_logs;
mod etag;
mod examples;
mod explain;
mod formats;
mod headers;
mod measure;
mod operations;
mod ops;
mod rate_limit;
mod sessions;
pub mod spec;
mod stream;
mod tasks;
mod workers;

pub(crate) use workers::ALWAYS_TOKEN;

use std::sync::Arc;
use std::time::Duration;

use adapter_host::AdapterHost;
use axum::Router;
use config_schema::Placement;
use llama_orch_client::NodeClient;
use task_journal::Journal;
use tokio_util::sync::CancellationToken;

use crate::artifacts::Artifacts;
use crate::dispatcher::Handle;
use crate::metrics::Metrics;
use crate::node_check::NodeCheck;
use crate::rate::RateLimits;

/// What handlers need: handles only.
#[derive(Clone)]
pub struct AppState {
    /// The dispatcher.
    pub dispatcher: Handle,
    /// Engines, for tokenizing.
    pub host: Arc<AdapterHost>,
    /// The nodes' own doors.
    pub nodes: NodeClient,
    /// Whether a node's relay can be reached.
    pub node_check: NodeCheck,
    /// Where admissions are recorded; absent when nothing is to survive.
    pub journal: Option<Arc<Journal>>,
    /// What clients store; absent where nothing is kept.
    pub artifacts: Option<Arc<Artifacts>>,
    /// Metric families.
    pub metrics: Arc<Metrics>,
    /// How often an identity may submit.
    pub rates: Arc<RateLimits>,
    /// Which placement overrides are allowed.
    pub gates: Placement,
    /// Silence after which a stream sends a comment.
    pub heartbeat: Duration,
    /// Raised when the daemon is to stop.
    pub draining: CancellationToken,
}

/// All routes.
pub fn router(state: AppState) -> Router {
    let (data, _) = spec::data_routes().split_for_parts();
    let (control, _) = spec::control_routes().split_for_parts();
    data.merge(control).with_state(state)
}
