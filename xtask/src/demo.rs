//! `cargo xtask demo`: builds the programs, then lets `llama-orch-demo` show the whole system.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::process::Cmd;
use crate::workspace::Place;

/// The demo's program, a member of the workspace.
const PROGRAM: &str = "llama-orch-demo";

/// Names the folder from which the harness starts programs; else it would build them again.
pub(crate) const PROGRAMS: &str = "LLAMA_ORCH_BIN_DIR";

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Let the pools run the real llama.cpp server (from a Python package) on a tiny generated model.
    #[arg(long)]
    real_engine: bool,
    /// Leave everything running until Ctrl-C, and say what to try next.
    #[arg(long)]
    keep: bool,
}

/// Builds and runs the demo.
///
/// # Errors
/// The build fails, or the demo does: it says why itself.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    cargo::build_programs(&place.root).run()?;
    let flags = [(args.real_engine, "--real-engine"), (args.keep, "--keep")];
    let flags: Vec<&str> = flags
        .into_iter()
        .filter_map(|(given, flag)| given.then_some(flag))
        .collect();
    show(&place, &flags)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the demo with the programs as they are built.
///
/// # Errors
/// The demo fails: it says why itself.
pub(crate) fn show(place: &Place, flags: &[&'static str]) -> Result<()> {
    let folder = place.binaries();
    Cmd::new(folder.join(PROGRAM), &place.root)
        .args(flags.iter().copied())
        .env(PROGRAMS, folder)
        .run()
}
