//! Dependencies: the part of `deny.toml` that needs no network and no other tool. Bans and single-version rules are
//! read from that file, so cargo-deny and this check cannot disagree.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use super::Finding;
use crate::workspace::{Locked, Source, Workspace};

const RULES: &str = "deny.toml";
const LOCK: &str = "Cargo.lock";

/// Checks every locked package.
///
/// # Errors
/// `deny.toml` cannot be read or an entry under `bans.deny` has another form than this check knows.
pub(super) fn check(root: &Path, workspace: &Workspace) -> Result<Vec<Finding>> {
    let path = root.join(RULES);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules: Table = text
        .parse()
        .with_context(|| format!("reading {}", path.display()))?;
    let mut findings: Vec<Finding> = workspace.packages.iter().filter_map(foreign_source).collect();
    for ban in bans(&rules)? {
        findings.extend(ban.check(&workspace.packages));
    }
    Ok(findings)
}

#[derive(Debug, PartialEq, Eq)]
enum Ban {
    /// The crate may not be used at all.
    Any(String),
    /// Not more than one version of the crate may be used.
    SeveralVersions(String),
}

fn bans(rules: &Table) -> Result<Vec<Ban>> {
    let entries = rules
        .get("bans")
        .and_then(|bans| bans.get("deny"))
        .and_then(Value::as_array);
    entries
        .context("deny.toml has no `bans.deny`")?
        .iter()
        .map(Ban::read)
        .collect()
}

impl Ban {
    fn read(entry: &Value) -> Result<Self> {
        let Some(name) = entry.get("crate").and_then(Value::as_str) else {
            bail!("an entry of `bans.deny` in deny.toml has no `crate`: {entry}");
        };
        let only_several = entry.get("deny-multiple-versions").and_then(Value::as_bool) == Some(true);
        Ok(if only_several {
            Self::SeveralVersions(name.to_owned())
        } else {
            Self::Any(name.to_owned())
        })
    }

    fn check(&self, packages: &[Locked]) -> Option<Finding> {
        match self {
            Self::Any(name) => {
                let found = versions(name, packages).into_iter().next()?;
                Some(Finding::new(
                    LOCK,
                    1,
                    format!("{name} {found} is banned by {RULES}"),
                ))
            }
            Self::SeveralVersions(name) => {
                let found: Vec<&str> = versions(name, packages).into_iter().collect();
                let message = || format!("{name} is locked in several versions: {}", found.join(", "));
                (found.len() > 1).then(|| Finding::new(LOCK, 1, message()))
            }
        }
    }
}

fn versions<'a>(name: &str, packages: &'a [Locked]) -> BTreeSet<&'a str> {
    packages
        .iter()
        .filter(|package| package.name == name)
        .map(|package| package.version.as_str())
        .collect()
}

fn foreign_source(package: &Locked) -> Option<Finding> {
    match &package.source {
        Source::Path | Source::DefaultRegistry => None,
        Source::Other(from) => {
            let message = format!(
                "{} {} comes from {from}: only the default registry is allowed",
                package.name, package.version
            );
            Some(Finding::new(LOCK, 1, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{Fixture, lines};

    const RULES_TEXT: &str = "[bans]\ndeny = [{ crate = \"openssl-sys\" }, { crate = \"tokio\", deny-multiple-versions = true }]\n";

    fn locked(name: &str, version: &str, source: Source) -> Locked {
        Locked {
            name: name.to_owned(),
            version: version.to_owned(),
            source,
        }
    }

    fn findings(packages: Vec<Locked>) -> Vec<String> {
        let fixture = Fixture::empty();
        fixture.write(RULES, RULES_TEXT);
        lines(
            &check(
                fixture.root(),
                &Workspace {
                    crates: Vec::new(),
                    packages,
                },
            )
            .unwrap(),
        )
    }

    #[test]
    fn a_banned_crate_is_found() {
        let found = findings(vec![locked("openssl-sys", "0.9.1", Source::DefaultRegistry)]);
        assert_eq!(found, ["Cargo.lock:1: openssl-sys 0.9.1 is banned by deny.toml"]);
    }

    #[test]
    fn one_version_is_fine_and_two_are_not() {
        let one = locked("tokio", "1.54.1", Source::DefaultRegistry);
        let two = locked("tokio", "0.3.7", Source::DefaultRegistry);
        assert_eq!(findings(vec![one.clone()]), [""; 0]);
        assert_eq!(
            findings(vec![one, two]),
            ["Cargo.lock:1: tokio is locked in several versions: 0.3.7, 1.54.1"]
        );
    }

    #[test]
    fn only_paths_and_the_default_registry_are_sources() {
        assert_eq!(findings(vec![locked("ours", "0.1.0", Source::Path)]), [""; 0]);
        let found = findings(vec![locked(
            "fork",
            "0.1.0",
            Source::Other("git+https://example.org/fork".to_owned()),
        )]);
        assert!(
            found[0].contains("fork 0.1.0 comes from git+https://example.org/fork"),
            "{found:?}"
        );
    }

    #[test]
    fn an_entry_of_another_form_is_refused_instead_of_ignored() {
        let rules: Table = "[bans]\ndeny = [\"openssl-sys\"]\n".parse().unwrap();
        assert!(bans(&rules).is_err());
        assert!(bans(&Table::new()).is_err());
    }
}
