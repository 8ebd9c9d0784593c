//! Schemathesis, which makes up requests from an OpenAPI document. Runs python3 and pip, which may use the network.

use std::path::PathBuf;

pub use crate::python_tool::InstallError;
use crate::python_tool::{self, Package};

/// The package and its version.
pub const PACKAGE: &str = "schemathesis==4.32.5";

/// Its command line, installed when it is not there yet. Blocks.
///
/// # Errors
/// There is no python3 with venv and pip, or the package cannot be fetched.
pub fn executable() -> Result<PathBuf, InstallError> {
    let venv = python_tool::environment(Package {
        name: "schemathesis",
        requirement: PACKAGE,
        with_dependencies: true,
    })?;
    Ok(venv.join("bin/schemathesis"))
}
