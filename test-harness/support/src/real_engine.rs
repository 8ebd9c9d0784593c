//! The real llama.cpp server on a machine without a GPU: makes sure that the pinned package is
//! installed, and gives an executable with llama-server's command line. Touches the target folder;
//! runs python3 and pip, which may use the network.

use std::path::{Path, PathBuf};

pub use crate::python_tool::InstallError;
use crate::python_tool::{self, Package};

/// The package that carries llama.cpp's server, and its version.
pub const PACKAGE: &str = "xllamacpp==2026.10.11549";

/// An executable that behaves like `llama-server`, installed when it is not there yet. Any number of
/// processes may ask at once: one installs, the others wait. Blocks.
///
/// # Errors
/// There is no python3 with venv and pip, or the package cannot be fetched.
pub fn llama_server() -> Result<PathBuf, InstallError> {
    let venv = python_tool::environment(Package {
        name: "xllamacpp",
        requirement: PACKAGE,
        with_dependencies: false,
    })?;
    let executable = venv.join("llama-server");
    python_tool::write(&executable, &wrapper(&venv), 0o755)?;
    Ok(executable)
}

/// `exec` keeps the process id, so that a supervisor's signals reach the server itself.
fn wrapper(venv: &Path) -> String {
    let python = quoted(&venv.join("bin/python"));
    let launcher = quoted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("launcher/llama_server.py"));
    format!("#!/bin/sh\nexec {python} {launcher} \"$@\"\n")
}

/// For a shell, whatever is in it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_path_with_anything_in_it_survives_the_shell() {
        let path = Path::new("/tmp/it's $HOME here");
        let output = Command::new("sh")
            .args(["-c", &format!("printf %s {}", quoted(path))])
            .output()
            .unwrap();
        assert_eq!(output.stdout, path.as_os_str().as_encoded_bytes());
    }
}
