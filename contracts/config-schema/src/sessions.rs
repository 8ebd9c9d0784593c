//! `[orchestratord.sessions]` and `[orchestratord.rate_limit]`: what one session and one identity may ask for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounded::{Count, Ms};

/// Sessions: tasks that name the same `session_id`. Kept in memory; a restart begins them anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// A session that was not used for this long ends, ms. Default 10 min.
    pub ttl_ms: Ms<100, 600_000, 86_400_000>,
    /// Most turns (tasks) of a session. Default 8.
    pub max_turns: Count<1, 8, 1_000_000>,
    /// Most sessions kept; the one that was idle for longest makes room. Sessions with live tasks stay, and
    /// those are bounded by the queue and the slots. Default 4096: about 2 MiB.
    pub max_sessions: Count<1, 4_096, 1_000_000>,
    /// How long after a turn the next one is still sent to the same pool when it has a choice, ms. Default
    /// 10 min: as long as the session; 0 turns it off.
    pub affinity_ttl_ms: Ms<0, 600_000, 86_400_000>,
    /// Most tokens of a session, prompts and outputs together. Default: no limit.
    pub token_budget: Option<Count<1, 1, 1_000_000_000_000>>,
    /// Most time of a session on engines, from slot to last token, ms. Default: no limit.
    pub time_budget_ms: Option<Ms<1, 1, 31_536_000_000>>,
    /// Most cost of a session, in the unit of the prices. Needs a price. Default: no limit.
    pub cost_budget: Option<f64>,
    /// Price of 1000 prompt tokens, in whatever unit the operator counts; to a billionth. Default: none.
    pub price_in_per_1k: Option<f64>,
    /// Price of 1000 generated tokens, in the same unit. Default: none.
    pub price_out_per_1k: Option<f64>,
}

/// How many tasks one identity (a token, or `localhost`) may submit. Cancels and reads are never limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Tasks per minute in the long run. Default 0: no limit.
    pub per_minute: Count<0, 0, 60_000_000>,
    /// Tasks that may come at once after a pause. Default 60.
    pub burst: Count<1, 60, 1_000_000>,
}
