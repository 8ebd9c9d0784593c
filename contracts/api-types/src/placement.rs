//! Placement overrides a request may carry (ORCH-3980).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::PoolId;

/// How strongly a request binds its placement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlacementMode {
    /// The policy chooses.
    #[default]
    Auto,
    /// Only `pin_pool_id` will do.
    Pin,
    /// `prefer_pools` first, in their order.
    Prefer,
}

/// Overrides of the placement policy, per request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlacementOverrides {
    /// auto, pin or prefer.
    pub mode: PlacementMode,
    /// The only pool that will do; needs `mode: pin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_pool_id: Option<PoolId>,
    /// Pools to try first, best first; needs `mode: prefer`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer_pools: Vec<PoolId>,
    /// Pools to leave out while another one will do (`allow_fallback`), else to leave out at all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub avoid_pools: Vec<PoolId>,
    /// GPU UUIDs, comma separated; the pool's device mask must be exactly this set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_device_mask: Option<String>,
    /// Whether another feasible pool may serve when no preferred (or unavoided) one can.
    /// Never loosens a pin or a required mask.
    pub allow_fallback: bool,
}

impl Default for PlacementOverrides {
    fn default() -> Self {
        Self {
            mode: PlacementMode::Auto,
            pin_pool_id: None,
            prefer_pools: Vec::new(),
            avoid_pools: Vec::new(),
            require_device_mask: None,
            allow_fallback: true,
        }
    }
}
