//! `cargo xtask regen`: the files that are generated and checked in. The programs themselves print them.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use similar::TextDiff;

use crate::cargo;
use crate::process::Cmd;
use crate::tidy::graph;
use crate::workspace::{Place, Workspace};

/// Options of `cargo xtask regen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail with a difference when a file is not current.
    #[arg(long)]
    check: bool,
}

/// A generated file and where its text comes from.
#[derive(Debug)]
struct Artifact {
    path: &'static str,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    /// Standard output of the built `orchestratord` with these arguments.
    Orchestratord(&'static [&'static str]),
    /// The dependency edges between the crates of the workspace.
    CrateGraph,
}

const ARTIFACTS: [Artifact; 4] = [
    Artifact {
        path: "contracts/openapi/data.yaml",
        origin: Origin::Orchestratord(&["openapi", "data"]),
    },
    Artifact {
        path: "contracts/openapi/control.yaml",
        origin: Origin::Orchestratord(&["openapi", "control"]),
    },
    Artifact {
        path: "contracts/config-schema/config.schema.json",
        origin: Origin::Orchestratord(&["config", "schema"]),
    },
    Artifact {
        path: graph::PATH,
        origin: Origin::CrateGraph,
    },
];

/// Writes or checks all generated files.
///
/// # Errors
/// The build fails, a program prints nothing, or, with `--check`, a file is not current.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    if args.check {
        check(&place)?;
    } else {
        write(&place)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds, then writes each generated file that is not current.
///
/// # Errors
/// The build fails, a program prints nothing, or a file cannot be written.
pub(crate) fn write(place: &Place) -> Result<()> {
    for (path, text) in generate(place)? {
        if let Drift::Differs(_) = drift(&place.root, path, &text) {
            write_file(&place.root.join(path), &text)?;
            println!("regen: wrote {path}");
        }
    }
    Ok(())
}

/// Builds, then compares each generated file with what would be written now.
///
/// # Errors
/// The build fails, a program prints nothing, or a file is not current: all differences are printed first.
pub(crate) fn check(place: &Place) -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in generate(place)? {
        if let Drift::Differs(diff) = drift(&place.root, path, &text) {
            println!("{diff}");
            stale.push(path);
        }
    }
    ensure!(
        stale.is_empty(),
        "not current: {}; `cargo xtask regen` writes them",
        stale.join(", ")
    );
    Ok(())
}

fn generate(place: &Place) -> Result<Vec<(&'static str, String)>> {
    cargo::build(&place.root).run()?;
    ARTIFACTS
        .iter()
        .map(|artifact| Ok((artifact.path, artifact.origin.text(place)?)))
        .collect()
}

impl Origin {
    fn text(&self, place: &Place) -> Result<String> {
        match self {
            Self::Orchestratord(args) => printed_by(place, "orchestratord", args),
            Self::CrateGraph => Ok(graph::render(&Workspace::load(&place.root)?)),
        }
    }
}

fn printed_by(place: &Place, binary: &str, args: &[&str]) -> Result<String> {
    let command = Cmd::new(place.binaries().join(binary), &place.root).args(args.iter().copied());
    let text = command.capture()?;
    if text.trim().is_empty() {
        bail!("`{command}` printed nothing");
    }
    Ok(text)
}

/// Whether a checked-in file is what its generator prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Drift {
    /// It is.
    Current,
    /// It is not: the difference, checked-in text first.
    Differs(String),
}

/// Compares the checked-in file with `expected`; a file that is missing or unreadable counts as empty.
pub(crate) fn drift(root: &Path, path: &str, expected: &str) -> Drift {
    let present = std::fs::read_to_string(root.join(path)).unwrap_or_default();
    if present == expected {
        return Drift::Current;
    }
    let diff = TextDiff::from_lines(present.as_str(), expected);
    let new = format!("{path} (regenerated)");
    Drift::Differs(diff.unified_diff().header(path, &new).to_string())
}

/// Writes a generated file, with its folder.
///
/// # Errors
/// Names the path that cannot be written.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_shown_with_the_checked_in_lines_first() {
        let root = tempfile::tempdir().unwrap();
        write_file(&root.path().join("ci/list.txt"), "one\ntwo\n").unwrap();
        assert_eq!(drift(root.path(), "ci/list.txt", "one\ntwo\n"), Drift::Current);
        let Drift::Differs(diff) = drift(root.path(), "ci/list.txt", "one\nthree\n") else {
            panic!("a changed line is drift");
        };
        assert!(diff.contains("\n-two\n+three\n"), "{diff}");
    }

    #[test]
    fn a_missing_file_is_drift() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            drift(root.path(), "absent.txt", "one\n"),
            Drift::Differs(_)
        ));
    }

    #[test]
    fn a_generator_that_prints_nothing_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let place = Place {
            root: root.path().to_owned(),
            target: root.path().join("target"),
        };
        let binary = place.binaries().join("orchestratord");
        write_file(&binary, "#!/bin/sh\necho \"$@\" | grep -v control\nexit 0\n").unwrap();
        Cmd::new("chmod", "/")
            .args(["+x".into(), binary.into_os_string()])
            .run()
            .unwrap();
        let text = printed_by(&place, "orchestratord", &["openapi", "data"]).unwrap();
        assert_eq!(text, "openapi data\n");
        assert!(printed_by(&place, "orchestratord", &["openapi", "control"]).is_err());
    }
}
