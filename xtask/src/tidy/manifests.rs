//! Manifests: every crate takes its lints and its dependencies from the workspace, and has a README.

use std::path::Path;

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::Finding;
use crate::workspace::{Crate, Workspace};

/// Crates with lints of their own, and why.
const OWN_LINTS: [(&str, &str); 2] = [
    (
        "fake-nvml",
        "it exports the C interface of NVML, which needs unsafe code",
    ),
    (
        "faulty-disk",
        "it stands in for functions of the C library, which needs unsafe code",
    ),
];
const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Checks the manifests and READMEs of all crates.
///
/// # Errors
/// A manifest is not TOML, which cargo would have refused before.
pub(super) fn check(root: &Path, workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in &workspace.crates {
        let manifest: Table = member
            .manifest
            .parse()
            .with_context(|| format!("reading {}", member.path("Cargo.toml")))?;
        findings.extend(lints(member, &manifest));
        findings.extend(dependencies(member, &manifest));
        findings.extend(readme(root, member));
    }
    Ok(findings)
}

fn lints(member: &Crate, manifest: &Table) -> Option<Finding> {
    let inherited = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(Value::as_bool);
    let excepted = OWN_LINTS.iter().any(|(name, _)| *name == member.name);
    match (inherited == Some(true), excepted) {
        (true, false) | (false, true) => None,
        (false, false) => Some(Finding::new(
            member.path("Cargo.toml"),
            1,
            "`[lints]` must say `workspace = true`",
        )),
        (true, true) => {
            let message = format!(
                "{} takes the workspace's lints now: remove its exception from tidy",
                member.name
            );
            Some(Finding::new(member.path("Cargo.toml"), 1, message))
        }
    }
}

fn dependencies(member: &Crate, manifest: &Table) -> Vec<Finding> {
    let own = |(name, dependency): (&String, &Value)| {
        let inherited = dependency.get("workspace").and_then(Value::as_bool) == Some(true);
        (!inherited).then(|| {
            let message = format!("{name} must come from the workspace: `{name}.workspace = true`");
            Finding::new(
                member.path("Cargo.toml"),
                dependency_line(&member.manifest, name),
                message,
            )
        })
    };
    dependency_tables(manifest)
        .into_iter()
        .flatten()
        .filter_map(own)
        .collect()
}

/// The dependency tables of the package and those of its `[target.'cfg(…)']` sections.
fn dependency_tables(manifest: &Table) -> Vec<&Table> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values);
    let sections = targets.filter_map(Value::as_table).chain([manifest]);
    sections
        .flat_map(|section| {
            DEPENDENCY_TABLES
                .iter()
                .filter_map(|table| section.get(*table)?.as_table())
        })
        .collect()
}

fn readme(root: &Path, member: &Crate) -> Option<Finding> {
    let path = member.path("README.md");
    let text = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
    text.trim()
        .is_empty()
        .then(|| Finding::new(path, 1, format!("{} has no README.md", member.name)))
}

/// The line of a manifest that declares the dependency `name`; 1 if none does.
pub(super) fn dependency_line(manifest: &str, name: &str) -> usize {
    let declares = |line: &str| {
        let rest = line.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(declares).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{Fixture, lines};

    fn findings(fixture: &Fixture) -> Vec<String> {
        lines(&check(fixture.root(), &fixture.workspace()).unwrap())
    }

    #[test]
    fn lints_come_from_the_workspace() {
        let fixture = Fixture::clean();
        fixture.replace(
            "lower/Cargo.toml",
            "[lints]\nworkspace = true\n",
            "[lints.rust]\nunsafe_code = \"allow\"\n",
        );
        assert_eq!(
            findings(&fixture),
            ["lower/Cargo.toml:1: `[lints]` must say `workspace = true`"]
        );
    }

    #[test]
    fn the_named_exception_may_have_its_own_lints_only_while_it_needs_them() {
        let fixture = Fixture::clean();
        fixture.replace("upper/Cargo.toml", "name = \"upper\"", "name = \"fake-nvml\"");
        assert!(findings(&fixture)[0].contains("remove its exception"));
        fixture.replace("upper/Cargo.toml", "[lints]\nworkspace = true\n", "");
        assert_eq!(findings(&fixture), [""; 0]);
    }

    #[test]
    fn dependencies_come_from_the_workspace() {
        let fixture = Fixture::clean();
        fixture.replace(
            "upper/Cargo.toml",
            "lower.workspace = true",
            "lower = { path = \"../lower\" }",
        );
        let found = findings(&fixture);
        assert_eq!(
            found,
            ["upper/Cargo.toml:10: lower must come from the workspace: `lower.workspace = true`"]
        );
    }

    #[test]
    fn dependencies_of_one_platform_are_looked_at_too() {
        let fixture = Fixture::clean();
        let section = "[target.'cfg(unix)'.dependencies]\nlower = { path = \"../lower\" }";
        fixture.replace(
            "upper/Cargo.toml",
            "[dependencies]\nlower.workspace = true",
            section,
        );
        assert_eq!(findings(&fixture).len(), 1);
    }

    #[test]
    fn an_empty_readme_is_none() {
        let fixture = Fixture::clean();
        fixture.write("lower/README.md", " \n");
        assert_eq!(findings(&fixture), ["lower/README.md:1: lower has no README.md"]);
    }
}
