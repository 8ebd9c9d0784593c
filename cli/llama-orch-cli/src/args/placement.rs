//! The options about where a task may run, the same for every command that submits one.

use api_types::{EngineKind, PlacementMode, PlacementOverrides, PoolId};
use clap::Args;

/// Where a task may run. Nothing said leaves it to the orchestrator.
#[derive(Debug, Args)]
pub struct PlacementArgs {
    /// Only this pool
    #[arg(
        long,
        value_name = "POOL",
        conflicts_with = "prefer",
        help_heading = "Placement"
    )]
    pub pin: Option<PoolId>,
    /// Try this pool first; may be repeated, best first
    #[arg(long, value_name = "POOL", value_delimiter = ',', help_heading = "Placement")]
    pub prefer: Vec<PoolId>,
    /// Leave this pool out; may be repeated
    #[arg(long, value_name = "POOL", value_delimiter = ',', help_heading = "Placement")]
    pub avoid: Vec<PoolId>,
    /// Only pools on exactly these GPUs: UUIDs, comma separated
    #[arg(long, value_name = "UUIDS", help_heading = "Placement")]
    pub device_mask: Option<String>,
    /// Fail rather than use a pool that is not preferred, or one to avoid
    #[arg(long, help_heading = "Placement")]
    pub no_fallback: bool,
    /// Only pools of this engine: llamacpp, vllm, tgi, triton or openai
    #[arg(long, value_name = "ENGINE", help_heading = "Placement")]
    pub engine: Option<EngineKind>,
}

impl PlacementArgs {
    /// The overrides, where anything was said.
    #[must_use]
    pub fn overrides(&self) -> Option<PlacementOverrides> {
        let mode = match (&self.pin, self.prefer.is_empty()) {
            (Some(_), _) => PlacementMode::Pin,
            (None, false) => PlacementMode::Prefer,
            (None, true) => PlacementMode::Auto,
        };
        let overrides = PlacementOverrides {
            mode,
            pin_pool_id: self.pin.clone(),
            prefer_pools: self.prefer.clone(),
            avoid_pools: self.avoid.clone(),
            require_device_mask: self.device_mask.clone(),
            allow_fallback: !self.no_fallback,
        };
        (overrides != PlacementOverrides::default()).then_some(overrides)
    }
}
