//! The tests of `ci/gpu-check` on a machine without a GPU: its parts, and the program as a whole over the programs as they are
//! built, the scripted engine and the fake NVML library.

use anyhow::Result;

use crate::demo::PROGRAMS;
use crate::process::Cmd;
use crate::workspace::Place;

/// Runs them.
///
/// # Errors
/// A test fails: it says why itself.
pub(crate) fn check(place: &Place) -> Result<()> {
    Cmd::new("python3", &place.root)
        .args([
            "-m",
            "unittest",
            "discover",
            "-s",
            "ci/gpu_check/tests",
            "-t",
            "ci",
        ])
        .env(PROGRAMS, place.binaries())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .run()
}
