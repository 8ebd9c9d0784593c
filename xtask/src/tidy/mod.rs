//! `cargo xtask tidy`: the rules of this project that no compiler knows. Each rule is a module that reads the workspace
//! or the tree and returns findings; nothing here changes a file, except the crate graph with `--write`.

mod attributes;
mod bdd;
mod configs;
mod dependencies;
pub(crate) mod graph;
mod holders;
mod layers;
mod manifests;
mod requirements;
mod rust_file;
mod sleeps;
#[cfg(test)]
mod testing;
mod text;
mod tree;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use self::tree::Tree;
use crate::regen::write_file;
use crate::workspace::{Place, Workspace};

/// Options of `cargo xtask tidy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the crate graph instead of comparing it.
    #[arg(long)]
    write: bool,
}

/// One violation of one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the workspace root.
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Finding {
    /// A finding at `path:line`.
    pub(crate) fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks all rules.
///
/// # Errors
/// The workspace cannot be read or a rule is violated.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Place::find()?.root;
    if args.write {
        write_file(&root.join(graph::PATH), &graph::render(&Workspace::load(&root)?))?;
    }
    check(&root)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints every finding in the workspace at `root`.
///
/// # Errors
/// The workspace cannot be read, or there is a finding.
pub(crate) fn check(root: &Path) -> Result<()> {
    let workspace = Workspace::load(root)?;
    let tree = Tree::read(root)?;
    let findings = findings(root, &workspace, &tree)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    ensure!(findings.is_empty(), "{} finding(s)", findings.len());
    println!(
        "tidy: {} crates and {} source files are in order",
        workspace.crates.len(),
        tree.texts.len()
    );
    println!("tidy: tests cite all {} requirements", requirements::count(&tree));
    Ok(())
}

fn findings(root: &Path, workspace: &Workspace, tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = tree.unparsed.clone();
    findings.extend(layers::check(workspace));
    findings.extend(holders::check(workspace, tree));
    findings.extend(graph::check(root, workspace));
    findings.extend(manifests::check(root, workspace)?);
    findings.extend(dependencies::check(root, workspace)?);
    findings.extend(text::check(tree));
    findings.extend(attributes::check(tree));
    findings.extend(bdd::check(tree));
    findings.extend(sleeps::check(tree));
    findings.extend(requirements::check(tree));
    findings.extend(configs::check(tree));
    findings.sort();
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::testing::Fixture;

    /// One file per rule is wrong in this workspace; each rule has its own tests beside it.
    #[test]
    fn every_rule_is_wired_in() {
        let fixture = Fixture::clean();
        assert_eq!(
            fixture.findings(),
            Vec::<String>::new(),
            "the clean fixture is clean"
        );
        fixture.write("lower/src/broken.rs", "//! Broken.\nfn (");
        fixture.write("upper/src/wrong.rs", "fn work() {}\n");
        fixture.write("upper/tests/it.rs", WRONG_TEST);
        fixture.write(".specs/a.md", concat!("- **REQ-", "SHOWN-NOWHERE** Text.\n"));
        fixture.write("examples/unread.toml", "");
        fixture.write("ci/crate-graph.txt", "");
        fixture.write("deny.toml", "[bans]\ndeny = [{ crate = \"lower\" }]\n");
        fixture.replace("lower/Cargo.toml", "[lints]\nworkspace = true\n", "");
        fixture.replace("lower/Cargo.toml", "layer = 0", "layer = 9");
        let findings = fixture.findings().join("\n");
        let rules = [
            "does not parse",
            "first line",
            "is ignored",
            "asserts nothing",
            "fixed sleep",
            "no file in .specs",
            "no test cites",
            "no test",
            "not current",
            "is banned",
            "workspace = true",
            "strictly lower",
        ];
        for rule in rules {
            assert!(findings.contains(rule), "no finding says `{rule}`:\n{findings}");
        }
    }

    const WRONG_TEST: &str = concat!(
        "//! Wrong in four ways, AUTH-",
        "9999.\n#[test]\n#[ignore]\nfn slow() { sleep(Duration::from_secs(1)); }\n",
        "#[then(\"it works\")]\nfn works(world: &mut World) {}\n",
    );
}
