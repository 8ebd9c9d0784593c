//! How log lines look. In the vocabulary because the configuration names it and the logger obeys it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For people at a terminal.
    Pretty,
}
