//! `cargo xtask chaos`: the kills of engines and of pool-managerd, as many as the product promises, and operations under
//! load, with their figures.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::workspace::Place;

/// Options of `cargo xtask chaos`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills of an engine, as many of pool-managerd, and a twentieth as many rounds of operations.
    #[arg(long, default_value_t = 500)]
    kills: u32,
}

/// Builds the suite with this number and runs it; the figures are on the terminal.
///
/// # Errors
/// Something was left, lost, or did not come back.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    cargo::long_tests(
        &Place::find()?.root,
        &[
            "kills::",
            "operations::drains",
            "--nocapture",
            "--test-threads",
            "1",
        ],
        &[("CHAOS_KILLS", args.kills)],
    )
}
