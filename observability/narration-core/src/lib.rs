//! Narration: one plain-English, correlated story per task and per pool (ORCH-3300…3308).
//!
//! Owns the narration line ([`Narration`]), how log lines look ([`logging`]), the wall clock
//! ([`wall`]) and the recorder that tests listen with ([`Recorder`]). Secrets never get here:
//! their types do not print.

pub mod logging;
mod narration;
mod recorder;
mod style;
pub mod wall;

pub use narration::{Narration, TARGET};
pub use recorder::{Recorded, Recorder};
pub use style::MAX_HUMAN_CHARS;
