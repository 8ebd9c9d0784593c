//! `cargo xtask crash`: the crash and race tests of the test command, with the numbers that the product promises.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::workspace::Place;

/// Options of `cargo xtask crash`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills of the orchestrator under load.
    #[arg(long, default_value_t = 2_000)]
    cycles: u32,
    /// Simulated power cuts of the journal's disk.
    #[arg(long, default_value_t = 20_000)]
    power_cuts: u32,
    /// Cancels against a running stream on real sockets.
    #[arg(long, default_value_t = 10_000)]
    cancel_races: u32,
    /// Kills of the orchestrator in the middle of storing artifacts.
    #[arg(long, default_value_t = 200)]
    artifact_cycles: u32,
}

/// Builds the tests with these numbers and runs them.
///
/// # Errors
/// A task or an artifact was lost, a task was out of order, or a token followed a cancel's acknowledgement.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    cargo::long_tests(
        &Place::find()?.root,
        &[
            "crash_cycles::",
            "cancel_races::",
            "power_cuts::",
            "artifact_crash::",
        ],
        &[
            ("CRASH_CYCLES", args.cycles),
            ("POWER_CUTS", args.power_cuts),
            ("ARTIFACT_CYCLES", args.artifact_cycles),
            ("CANCEL_RACES", args.cancel_races),
        ],
    )
}
