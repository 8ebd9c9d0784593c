//! `cargo xtask demo`: builds the programs, then lets `llama-orch-demo` show the whole system.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::process::Cmd;
use crate::workspace::Place;

/// The demo's program, a member of the workspace.
const PROGRAM: &str = "llama-orch-demo";

/// Where the harness finds built programs; else it would build them again.
const PROGRAMS: &str = "LLAMA_ORCH_BIN_DIR";

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
    let flags = flags
        .into_iter()
        .filter(|(given, _)| *given)
        .map(|(_, flag)| flag);
    let folder = place.binaries();
    Cmd::new(folder.join(PROGRAM), &place.root)
        .args(flags)
        .env(PROGRAMS, folder)
        .run()?;
    Ok(ExitCode::SUCCESS)
}
