//! A small workspace in a temporary folder, for the tests of the rules.

use std::path::Path;

use super::tree::Tree;
use super::{Finding, findings, graph};
use crate::regen::write_file;
use crate::workspace::Workspace;

pub(super) struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    /// An empty folder.
    pub(super) fn empty() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    /// Two crates that keep every rule.
    pub(super) fn clean() -> Self {
        let fixture = Self::empty();
        fixture.write("Cargo.toml", WORKSPACE);
        fixture.write("deny.toml", "[bans]\ndeny = [{ crate = \"openssl-sys\" }]\n");
        for (name, manifest) in [("lower", LOWER), ("upper", UPPER)] {
            fixture.write(&format!("{name}/Cargo.toml"), manifest);
            fixture.write(&format!("{name}/README.md"), "# A crate\n");
            fixture.write(&format!("{name}/src/lib.rs"), "//! A crate.\n");
        }
        fixture.write(graph::PATH, &graph::render(&fixture.workspace()));
        fixture
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        write_file(&self.root().join(path), text).unwrap();
    }

    pub(super) fn replace(&self, path: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.root().join(path)).unwrap();
        assert!(text.contains(from), "{path} does not hold {from}");
        self.write(path, &text.replace(from, to));
    }

    pub(super) fn workspace(&self) -> Workspace {
        Workspace::load(self.root()).unwrap()
    }

    pub(super) fn tree(&self) -> Tree {
        Tree::read(self.root()).unwrap()
    }

    pub(super) fn findings(&self) -> Vec<String> {
        lines(&findings(self.root(), &self.workspace(), &self.tree()).unwrap())
    }
}

/// A tree of these files.
pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
    let fixture = Fixture::empty();
    files.iter().for_each(|(path, text)| fixture.write(path, text));
    fixture.tree()
}

pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// `path:line` of each finding.
pub(super) fn places(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| format!("{}:{}", finding.path, finding.line))
        .collect()
}

const WORKSPACE: &str = "[workspace]\nresolver = \"3\"\nmembers = [\"lower\", \"upper\"]\n\
    [workspace.lints]\n[workspace.dependencies]\nlower = { path = \"lower\" }\n";

const LOWER: &str = "[package]\nname = \"lower\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
    [package.metadata.orch]\nlayer = 0\n[lints]\nworkspace = true\n";

const UPPER: &str = "[package]\nname = \"upper\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
    [package.metadata.orch]\nlayer = 1\n[lints]\nworkspace = true\n[dependencies]\nlower.workspace = true\n";
