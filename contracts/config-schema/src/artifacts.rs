//! `[orchestratord.artifacts]`: what is kept beside tasks, for how long, and what the traces of tasks say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounded::{Count, Ms};

/// Artifacts: what clients store, and one trace for every task that ends. They lie in the state directory; with
/// `durability = "off"` nothing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Artifacts {
    /// Largest content of one artifact, bytes. Default 4 MiB. A trace that would be larger goes without its text.
    pub max_bytes: Count<1_024, 4_194_304, 67_108_864>,
    /// Most of what clients store, as it lies on the disk, MiB; the oldest make room. Default 256.
    pub stored_mib: Count<1, 256, 1_048_576>,
    /// Most of all traces, MiB; the oldest make room. Default 64: some 20 000 tasks, and about 10 MiB of memory.
    pub traces_mib: Count<1, 64, 1_048_576>,
    /// How long artifacts are kept, ms. Time while the machine is off does not count. Default 30 days.
    pub max_age_ms: Ms<1_000, 2_592_000_000, 315_360_000_000>,
    /// Whether every task that ends leaves a trace. Default: yes.
    pub traces: bool,
    /// What a trace says of a task's input (prompt, messages, inputs, query, stop texts). Default `hash`. `keep` holds the
    /// texts in memory a second time until the task ends.
    pub trace_input: TraceText,
    /// What a trace says of a task's output. Default `keep`: without it an answer cannot be explained later.
    pub trace_output: TraceText,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            max_bytes: Count::default(),
            stored_mib: Count::default(),
            traces_mib: Count::default(),
            max_age_ms: Ms::default(),
            traces: true,
            trace_input: TraceText::Hash,
            trace_output: TraceText::Keep,
        }
    }
}

/// What a trace says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TraceText {
    /// The text.
    Keep,
    /// Its length and SHA-256: whoever has the text can tell that it was this one, and whoever guesses a short one can
    /// test the guess.
    Hash,
    /// Its length.
    Drop,
}
