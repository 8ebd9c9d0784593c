//! The shim: a small process between the daemon and one start of an engine, made of this same program. It is the
//! engine's parent, or holds its container, so an engine outlives the daemon, its output is always drained, its end is
//! always known, and nothing of it is left behind. Here are its parts; what it does is told in `run`.
//!
//! ```text
//! pool-managerd ── orders (stdin) ──▶ shim ─┬ exec step ──▶ engine
//!                                           └ Podman, Docker ──▶ container with the engine
//!       ▲  answer (stdout), then files: start.json, N.log, exit.json   (one folder per replica)
//!       └─ pidfd: the shim has ended, so the engine has, and nothing of it runs any more
//! ```
//!
//! Signals to a shim: SIGTERM ends the engine politely, with the grace of its orders; SIGINT at once.

mod contained;
mod engine;
mod exec;
mod log;
mod orders;
mod orphan;
mod remains;
mod run;

use std::process::ExitCode;

pub use exec::REFUSAL;
pub use log::{Follow, LogFiles, LogLimits};
pub use orders::{Answer, Exit, FORMAT, Orders, Record, Run, read_exit, read_record};
pub use remains::{Contained, Place, RunningContainer, Start, end_all, end_remains};
pub use run::PROGRAM;

/// The first argument that makes this program a shim; the second is the replica's folder.
pub const SHIM: &str = "engine-shim";

/// The first argument that makes it the step between shim and engine.
pub const EXEC: &str = "engine-exec";

/// Runs as shim or as the step before the engine, when the arguments (without the program's name) say so. Neither
/// is for people: they take no flags and read no configuration.
#[must_use]
pub fn dispatch(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<ExitCode> {
    match arguments.next()?.to_str()? {
        SHIM => Some(run::main(arguments.next())),
        EXEC => Some(exec::main(arguments)),
        _ => None,
    }
}
