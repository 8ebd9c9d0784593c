//! `cargo xtask bench`: builds the programs for release, then lets `llama-orch-bench` measure them.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;
use crate::process::Cmd;
use crate::test::packages;
use crate::workspace::Place;

/// The benchmark's program, a member of the workspace.
const PROGRAM: &str = "llama-orch-bench";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For the benchmark itself, e.g. --quick, --full, --only NAME, --check; `-- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    benchmark: Vec<OsString>,
}

/// Builds and measures.
///
/// # Errors
/// nginx is missing, the build fails, or the benchmark does: it says why itself.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    packages::ensure(&[packages::NGINX], &place.root)?;
    cargo::build_release_programs(&place.root).run()?;
    Cmd::new(place.release_binaries().join(PROGRAM), &place.root)
        .args(args.benchmark.iter().cloned())
        .run()?;
    Ok(ExitCode::SUCCESS)
}
