//! What only certain crates may be built on: HTTP clients and engine dialects have one place each, so that nobody
//! else can make a client with other limits or speak to an engine around the circuit breaker.

use super::Finding;
use super::manifests::dependency_line;
use super::tree::Tree;
use crate::workspace::{Crate, Purpose, Workspace};

/// A package and the only crates that may be built on it. Tests may use what they like.
struct Holders {
    package: &'static str,
    crates: &'static [&'static str],
    reason: &'static str,
}

const HOLDERS: [Holders; 2] = [
    Holders {
        package: "reqwest",
        crates: &["http-util"],
        reason: "http-util is the only constructor of HTTP clients",
    },
    Holders {
        package: "llamacpp-http",
        crates: &["adapter-host"],
        reason: "adapter-host is the only holder of adapters",
    },
];

/// The sources that may not call engines past adapter-host, and what they may use of the crate that could.
const CALLS_ENGINES_THROUGH_ITS_HOST: &str = "orchestratord/src/";
const CLIENTS: &str = "http_util::";
const NO_CLIENT: &str = "http_util::wait::";

/// Checks what each crate is built on, and that the orchestrator makes no client of its own.
pub(super) fn check(workspace: &Workspace, tree: &Tree) -> Vec<Finding> {
    let mut findings = built_on(workspace);
    findings.extend(clients_of_the_orchestrator(tree));
    findings
}

fn clients_of_the_orchestrator(tree: &Tree) -> Vec<Finding> {
    let sources = tree
        .rust
        .iter()
        .filter(|file| file.path.starts_with(CALLS_ENGINES_THROUGH_ITS_HOST));
    let lines = sources.flat_map(|file| {
        file.text
            .lines()
            .zip(1..)
            .map(move |(text, line)| (file, text, line))
    });
    let message = "the orchestrator reaches engines through adapter-host and nodes through llama-orch-client";
    lines
        .filter(|(_, text, _)| text.matches(CLIENTS).count() > text.matches(NO_CLIENT).count())
        .map(|(file, _, line)| Finding::new(&file.path, line, message))
        .collect()
}

fn built_on(workspace: &Workspace) -> Vec<Finding> {
    let strays = |member: &Crate| -> Vec<Finding> {
        HOLDERS
            .iter()
            .filter(|rule| !rule.crates.contains(&member.name.as_str()) && is_built_on(member, rule.package))
            .map(|rule| stray(member, rule))
            .collect()
    };
    workspace.crates.iter().flat_map(strays).collect()
}

fn is_built_on(member: &Crate, package: &str) -> bool {
    let inside = member
        .edges
        .iter()
        .any(|edge| edge.to == package && edge.purpose == Purpose::Product);
    inside || member.external.iter().any(|name| name == package)
}

fn stray(member: &Crate, rule: &Holders) -> Finding {
    Finding::new(
        member.path("Cargo.toml"),
        dependency_line(&member.manifest, rule.package),
        format!("{} is built on {}: {}", member.name, rule.package, rule.reason),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{lines, places, tree};
    use crate::workspace::Edge;

    fn found(name: &str, external: &[&str], inside: &[(&str, Purpose)]) -> Vec<String> {
        let edge = |&(to, purpose): &(&str, Purpose)| Edge {
            to: to.to_owned(),
            purpose,
        };
        let member = Crate {
            name: name.into(),
            dir: name.into(),
            layer: Some(5),
            edges: inside.iter().map(edge).collect(),
            external: external.iter().map(ToString::to_string).collect(),
            manifest: String::new(),
        };
        lines(&built_on(&Workspace {
            crates: vec![member],
            packages: Vec::new(),
        }))
    }

    /// ORCH-3610.
    #[test]
    fn one_crate_makes_http_clients() {
        assert_eq!(found("http-util", &["reqwest"], &[]), [""; 0]);
        let strays = found("llama-orch-client", &["reqwest"], &[]);
        assert!(
            strays[0].contains("the only constructor of HTTP clients"),
            "{strays:?}"
        );
    }

    /// ORCH-3600, ORCH-3620.
    #[test]
    fn one_crate_holds_adapters() {
        let adapter = |purpose| [("llamacpp-http", purpose)];
        assert_eq!(found("adapter-host", &[], &adapter(Purpose::Product)), [""; 0]);
        assert_eq!(found("orchestratord", &[], &adapter(Purpose::Product)).len(), 1);
        assert_eq!(found("orchestratord", &[], &adapter(Purpose::Tests)), [""; 0]);
    }

    /// ORCH-3620.
    #[test]
    fn the_orchestrator_makes_no_client_of_its_own() {
        let waits = ("orchestratord/src/a.rs", "//! A.\nuse http_util::wait::Alarm;\n");
        let calls = (
            "orchestratord/src/b.rs",
            "//! B.\n\nuse http_util::{Client, wait::Alarm};\n",
        );
        let others = ("adapter-host/src/c.rs", "//! C.\nuse http_util::Client;\n");
        let findings = clients_of_the_orchestrator(&tree(&[waits, calls, others]));
        assert_eq!(places(&findings), ["orchestratord/src/b.rs:3"]);
    }
}
