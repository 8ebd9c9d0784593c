//! What only certain crates may be built on: HTTP clients and engine dialects have one place each, so that nobody
//! else can make a client with other limits or speak to an engine around the circuit breaker.

use super::Finding;
use super::manifests::dependency_line;
use crate::workspace::{Crate, Purpose, Workspace};

/// A package and the only crates that may be built on it. Tests may use what they like.
struct Holders {
    package: &'static str,
    crates: &'static [&'static str],
    reason: &'static str,
}

const HOLDERS: [Holders; 3] = [
    Holders {
        package: "reqwest",
        crates: &["http-util"],
        reason: "http-util is the only constructor of HTTP clients",
    },
    Holders {
        package: "http-util",
        crates: &[
            "llamacpp-http",
            "adapter-host",
            "llama-orch-client",
            "pool-managerd",
        ],
        reason: "orchestratord and the tools reach engines and daemons through adapter-host and llama-orch-client",
    },
    Holders {
        package: "llamacpp-http",
        crates: &["adapter-host"],
        reason: "adapter-host is the only holder of adapters",
    },
];

/// Checks what each crate is built on.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
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
    use crate::tidy::testing::lines;
    use crate::workspace::Edge;

    fn built_on(name: &str, external: &[&str], inside: &[(&str, Purpose)]) -> Vec<String> {
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
        lines(&check(&Workspace {
            crates: vec![member],
            packages: Vec::new(),
        }))
    }

    /// ORCH-3610.
    #[test]
    fn one_crate_makes_http_clients() {
        assert_eq!(built_on("http-util", &["reqwest"], &[]), [""; 0]);
        let found = built_on("llama-orch-client", &["reqwest"], &[]);
        assert!(
            found[0].contains("the only constructor of HTTP clients"),
            "{found:?}"
        );
    }

    /// ORCH-3600, ORCH-3620.
    #[test]
    fn one_crate_holds_adapters_and_the_orchestrator_goes_through_it() {
        assert_eq!(
            built_on("adapter-host", &[], &[("llamacpp-http", Purpose::Product)]),
            [""; 0]
        );
        for package in ["llamacpp-http", "http-util"] {
            assert_eq!(
                built_on("orchestratord", &[], &[(package, Purpose::Product)]).len(),
                1
            );
            assert_eq!(
                built_on("orchestratord", &[], &[(package, Purpose::Tests)]),
                [""; 0]
            );
        }
    }
}
