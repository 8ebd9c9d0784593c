//! `cargo xtask crash`: the crash tests of the test command, with the numbers that the product promises.

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
}

/// Builds the tests with these numbers and runs them.
///
/// # Errors
/// A task was lost or out of order.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    cargo::build_programs(&place.root).run()?;
    cargo::test(&place.root)
        .args(["--test", "it", "--", "crash_cycles::", "power_cuts::"])
        .env("CRASH_CYCLES", args.cycles.to_string())
        .env("POWER_CUTS", args.power_cuts.to_string())
        .run()?;
    Ok(ExitCode::SUCCESS)
}
