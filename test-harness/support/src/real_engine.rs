//! The real llama.cpp server on a machine without a GPU: makes sure that the pinned package is
//! installed, and gives an executable with llama-server's command line. Touches the target folder;
//! runs python3 and pip, which may use the network.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binaries::target_folder;

/// The package that carries llama.cpp's server, and its version.
pub const PACKAGE: &str = "xllamacpp==2026.10.11549";

/// Why the real engine cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A program is missing.
    #[error("cannot run `{command}`; python3 with venv and pip is needed for the real engine")]
    Missing {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error(
        "`{command}` failed; python3 with venv and pip, and a package index, are needed for the real engine:\n{output}"
    )]
    Failed {
        /// The command line.
        command: String,
        /// What it wrote.
        output: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An executable that behaves like `llama-server`, installed when it is not there yet. Any number of
/// processes may ask at once: one installs, the others wait. Blocks.
///
/// # Errors
/// There is no python3 with venv and pip, or the package cannot be fetched.
pub fn llama_server() -> Result<PathBuf, InstallError> {
    let target = target_folder();
    let venv = target.join("xllamacpp-venv");
    fs::create_dir_all(&target).map_err(|source| InstallError::File {
        path: target.clone(),
        source,
    })?;
    let _lock = lock(&target.join("xllamacpp-venv.lock"))?;
    let installed = venv.join("installed");
    if fs::read_to_string(&installed).ok().as_deref() != Some(PACKAGE) {
        install(&venv)?;
        write(&installed, PACKAGE, 0o644)?;
    }
    let executable = venv.join("llama-server");
    write(&executable, &wrapper(&venv), 0o755)?;
    Ok(executable)
}

/// The lock is given back when the file is closed.
fn lock(path: &Path) -> Result<File, InstallError> {
    let locked = File::create(path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| InstallError::File {
        path: path.to_owned(),
        source,
    })
}

/// A half-made environment of an earlier attempt is made anew.
fn install(venv: &Path) -> Result<(), InstallError> {
    if venv.exists() {
        fs::remove_dir_all(venv).map_err(|source| InstallError::File {
            path: venv.to_owned(),
            source,
        })?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
        PACKAGE,
    ];
    run(Command::new(venv.join("bin/python")).args(pip))
}

fn run(command: &mut Command) -> Result<(), InstallError> {
    let line = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| InstallError::Missing {
        command: line.clone(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(InstallError::Failed {
        command: line,
        output: String::from_utf8_lossy(&text).into_owned(),
    })
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

/// Writes the file as a whole, unless it is right already: it may be executing.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), InstallError> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let written = || {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|source: io::Error| InstallError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
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
