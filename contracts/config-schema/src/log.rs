//! `[log]`: what is logged and how it looks.

use api_types::LogFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Log output; always to standard error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json` (default): one object per line. `pretty`: for people.
    pub format: LogFormat,
    /// Level or filter directives, e.g. `info` or `warn,orchestratord=debug`. Default `info`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            level: "info".to_owned(),
        }
    }
}
