//! Where the workspace's built programs are, and making sure that they are built. May run cargo once
//! per process; touches the target folder through it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;

/// Names the folder that holds the built programs; then nothing is built here.
pub const FOLDER_VARIABLE: &str = "LLAMA_ORCH_BIN_DIR";

/// Names a statically linked `scripted-engine`; then none is built here.
pub const STATIC_ENGINE_VARIABLE: &str = "LLAMA_ORCH_STATIC_ENGINE";

/// Why there is no such program.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be run.
    #[error("cannot run `{command}`: {reason}")]
    Cargo {
        /// The command line.
        command: String,
        /// What the operating system said.
        reason: String,
    },
    /// Cargo ran and failed.
    #[error("`{command}` failed:\n{stderr}")]
    Build {
        /// The command line.
        command: String,
        /// Its error output.
        stderr: String,
    },
    /// The build has no program of that name.
    #[error("the workspace builds no program {name:?} (it builds {known:?})")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A file that should be there is not.
    #[error("{name} is in none of {folders:?}")]
    Missing {
        /// The file name.
        name: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
}

/// The path of a program of this workspace. Unless [`FOLDER_VARIABLE`] names a folder, the first call
/// in a process builds the workspace.
///
/// # Errors
/// The build fails, or there is no such program.
pub fn bin_path(name: &str) -> Result<PathBuf, BuildError> {
    if let Some(folder) = configured_folder() {
        return existing(name, vec![folder]);
    }
    let programs = built_programs()?;
    programs.get(name).cloned().ok_or_else(|| BuildError::Unknown {
        name: name.to_owned(),
        known: programs.keys().cloned().collect(),
    })
}

/// The path of a `scripted-engine` that needs no library, so that an image may consist of it alone. Unless
/// [`STATIC_ENGINE_VARIABLE`] names one, the first call in a process builds it.
///
/// # Errors
/// The build fails.
pub fn static_engine() -> Result<PathBuf, BuildError> {
    static BUILT: OnceLock<Result<PathBuf, BuildError>> = OnceLock::new();
    if let Some(path) = variable(STATIC_ENGINE_VARIABLE) {
        return Ok(path.into());
    }
    BUILT.get_or_init(build_static_engine).clone()
}

/// The path of a shared library that this crate's own build produced.
pub(crate) fn shared_library(name: &str) -> Result<PathBuf, BuildError> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let folders = [configured_folder(), beside].into_iter().flatten();
    existing(
        name,
        folders.flat_map(|folder| [folder.join("deps"), folder]).collect(),
    )
}

/// The path of a shared library of this workspace that nothing links, built like the programs.
pub(crate) fn plugin(name: &str) -> Result<PathBuf, BuildError> {
    if configured_folder().is_none() {
        built_programs()?;
    }
    shared_library(name)
}

/// The workspace's root, known since this crate was compiled.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The workspace's target folder.
pub fn target_folder() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

fn existing(name: &str, folders: Vec<PathBuf>) -> Result<PathBuf, BuildError> {
    let found = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| BuildError::Missing {
        name: name.to_owned(),
        folders,
    })
}

fn configured_folder() -> Option<PathBuf> {
    variable(FOLDER_VARIABLE).map(PathBuf::from)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness is configured by cargo's and xtask's environment"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn built_programs() -> Result<&'static HashMap<String, PathBuf>, BuildError> {
    static BUILT: OnceLock<Result<HashMap<String, PathBuf>, BuildError>> = OnceLock::new();
    BUILT.get_or_init(build).as_ref().map_err(Clone::clone)
}

/// Builds programs and tests together: a build without tests would resolve other features (the
/// tests' own dependencies add some) and compile the world a second time.
const BUILD: [&str; 6] = [
    "build",
    "--workspace",
    "--lib",
    "--bins",
    "--tests",
    "--message-format=json-render-diagnostics",
];

/// Cargo describes the test's own package in these variables. Build scripts that watch them (ring's does) would
/// otherwise run again, and everything above them compile again, at each change between a test and a build.
fn described_by_cargo(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

fn build() -> Result<HashMap<String, PathBuf>, BuildError> {
    run_cargo(&BUILD, &[]).map(|messages| programs_in(&messages))
}

/// The same packages and features as [`BUILD`]'s, so that what runs on this machine during the build is not compiled
/// again. A named target keeps the flag from reaching that.
const BUILD_STATIC: [&str; 6] = [
    "build",
    "--workspace",
    "--all-features",
    "--bin",
    STATIC_ENGINE,
    "--message-format=json-render-diagnostics",
];

const STATIC_ENGINE: &str = "scripted-engine";

fn build_static_engine() -> Result<PathBuf, BuildError> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = ["--target", &*target];
    let flags = variable("RUSTFLAGS").unwrap_or_default();
    let flags = format!(
        "{} -C target-feature=+crt-static -C strip=symbols",
        flags.to_string_lossy()
    );
    let arguments = [&BUILD_STATIC[..], &target[..]].concat();
    let messages = run_cargo(&arguments, &[("RUSTFLAGS", flags.trim())])?;
    let mut programs = programs_in(&messages);
    programs.remove(STATIC_ENGINE).ok_or_else(|| BuildError::Unknown {
        name: STATIC_ENGINE.to_owned(),
        known: programs.into_keys().collect(),
    })
}

/// Runs cargo in the workspace and returns its messages.
fn run_cargo(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Vec<u8>, BuildError> {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    let command = format!("cargo {}", arguments.join(" "));
    let mut build = Command::new(cargo);
    for (name, _) in std::env::vars_os().filter(|(name, _)| described_by_cargo(&name.to_string_lossy())) {
        build.env_remove(name);
    }
    let output = build
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(workspace_root())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| BuildError::Cargo {
            command: command.clone(),
            reason: error.to_string(),
        })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Build { command, stderr });
    }
    Ok(output.stdout)
}

/// One line of cargo's output; other kinds of lines have no executable.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
    profile: Profile,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

fn programs_in(messages: &[u8]) -> HashMap<String, PathBuf> {
    let lines = messages.split(|byte| *byte == b'\n');
    let artifacts = lines.filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    let programs = artifacts.filter(|a| !a.profile.test && a.target.kind.iter().any(|kind| kind == "bin"));
    programs
        .filter_map(|a| Some((a.target.name, a.executable?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_are_taken_from_cargos_messages() {
        let messages = br#"{"reason":"build-script-executed"}
{"target":{"name":"a","kind":["lib"]},"profile":{"test":false},"executable":null}
{"target":{"name":"a","kind":["bin"]},"profile":{"test":true},"executable":"/t/deps/a-1"}
{"target":{"name":"a","kind":["bin"]},"profile":{"test":false},"executable":"/t/a"}
"#;
        assert_eq!(
            programs_in(messages),
            HashMap::from([("a".to_owned(), PathBuf::from("/t/a"))])
        );
    }
}
