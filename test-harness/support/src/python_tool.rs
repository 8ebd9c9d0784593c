//! Tools that come as Python packages, each in an environment of its own under the target folder. Runs python3 and pip,
//! which may use the network.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binaries::target_folder;

/// Why a tool cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A program is missing.
    #[error("cannot run `{command}`; python3 with venv and pip is needed")]
    Missing {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed; python3 with venv and pip, and a package index, are needed:\n{output}")]
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

/// A package, pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Names its environment.
    pub(crate) name: &'static str,
    /// What pip is asked for: `name==version`.
    pub(crate) requirement: &'static str,
    /// Whether what the package depends on is installed too.
    pub(crate) with_dependencies: bool,
}

/// The environment that the package is installed in, made when it is not there yet. Any number of processes may ask at
/// once: one installs, the others wait. Blocks.
pub(crate) fn environment(package: Package) -> Result<PathBuf, InstallError> {
    let target = target_folder();
    let venv = target.join(format!("{}-venv", package.name));
    fs::create_dir_all(&target).map_err(|source| InstallError::File {
        path: target.clone(),
        source,
    })?;
    let _lock = lock(&target.join(format!("{}-venv.lock", package.name)))?;
    let installed = venv.join("installed");
    if fs::read_to_string(&installed).ok().as_deref() != Some(package.requirement) {
        install(&venv, package)?;
        write(&installed, package.requirement, 0o644)?;
    }
    Ok(venv)
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
fn install(venv: &Path, package: Package) -> Result<(), InstallError> {
    if venv.exists() {
        fs::remove_dir_all(venv).map_err(|source| InstallError::File {
            path: venv.to_owned(),
            source,
        })?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    if !package.with_dependencies {
        pip.arg("--no-deps");
    }
    run(pip.arg(package.requirement))
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

/// Writes the file as a whole, unless it is right already: it may be executing.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), InstallError> {
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
