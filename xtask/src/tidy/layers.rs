//! Layers: a crate depends only on strictly lower layers, the lowest ones know neither an async runtime nor HTTP, and
//! the daemons never link each other.

use std::collections::BTreeSet;

use super::Finding;
use super::manifests::dependency_line;
use crate::workspace::{Crate, Edge, Purpose, Workspace};

/// From here up, a crate exists for tests: any crate may use it in its own tests.
const TEST_LAYER: u64 = 6;
/// Below this, a crate is plain data and logic.
const FIRST_ASYNC_LAYER: u64 = 2;
/// Async runtimes and HTTP: what a crate of plain data and logic has no use for.
const ASYNC_AND_HTTP: [&str; 10] = [
    "async-trait",
    "axum",
    "futures-util",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "reqwest",
    "tokio",
    "tower",
];
/// They speak HTTP to each other; what one links, another could call.
const SPEAK_HTTP: [&str; 3] = ["orchestratord", "pool-managerd", "llama-orch-cli"];
/// Compiled first on a clean clone, so it must not wait for the daemons either.
const COMPILED_FIRST: &str = "xtask";

/// Checks the layers of all crates.
pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings: Vec<Finding> = workspace
        .crates
        .iter()
        .flat_map(|member| layer_of_each_edge(member, workspace))
        .collect();
    for from in SPEAK_HTTP
        .into_iter()
        .chain([COMPILED_FIRST])
        .filter_map(|name| workspace.member(name))
    {
        findings.extend(linked_daemons(from, workspace));
    }
    findings
}

fn layer_of_each_edge(member: &Crate, workspace: &Workspace) -> Vec<Finding> {
    let Some(layer) = member.layer else {
        let message = "`[package.metadata.orch] layer` must be a number";
        return vec![Finding::new(member.path("Cargo.toml"), 1, message)];
    };
    let mut findings = async_below_its_layer(member, layer);
    for edge in &member.edges {
        // A target without a layer has its own finding.
        let Some(below) = workspace.member(&edge.to).and_then(|target| target.layer) else {
            continue;
        };
        if !may_depend(layer, below, edge.purpose) {
            let message = format!(
                "{} (layer {layer}) depends on {} (layer {below}): only strictly lower layers are allowed",
                member.name, edge.to
            );
            findings.push(Finding::new(
                member.path("Cargo.toml"),
                dependency_line(&member.manifest, &edge.to),
                message,
            ));
        }
    }
    findings
}

fn async_below_its_layer(member: &Crate, layer: u64) -> Vec<Finding> {
    let too_high = member
        .external
        .iter()
        .filter(|name| ASYNC_AND_HTTP.contains(&name.as_str()));
    let finding = |name: &String| {
        let message = format!(
            "{} (layer {layer}) depends on {name}: layers below {FIRST_ASYNC_LAYER} have no async runtime and no HTTP",
            member.name
        );
        Finding::new(
            member.path("Cargo.toml"),
            dependency_line(&member.manifest, name),
            message,
        )
    };
    if layer < FIRST_ASYNC_LAYER {
        too_high.map(finding).collect()
    } else {
        Vec::new()
    }
}

fn may_depend(layer: u64, below: u64, purpose: Purpose) -> bool {
    below < layer || (purpose == Purpose::Tests && below >= TEST_LAYER)
}

fn linked_daemons(from: &Crate, workspace: &Workspace) -> Vec<Finding> {
    let linked = reachable(from, workspace);
    let daemons = SPEAK_HTTP
        .into_iter()
        .filter(|daemon| *daemon != from.name && linked.contains(*daemon));
    let message = |daemon| {
        format!(
            "{} links {daemon}: daemons and tools speak HTTP, they never link each other",
            from.name
        )
    };
    daemons
        .map(|daemon| Finding::new(from.path("Cargo.toml"), 1, message(daemon)))
        .collect()
}

/// All members that `from` or its tests compile in. Tests of a dependency are not compiled in.
fn reachable<'a>(from: &'a Crate, workspace: &'a Workspace) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&Edge> = from.edges.iter().collect();
    while let Some(edge) = next.pop() {
        if seen.insert(edge.to.as_str()) {
            let target = workspace
                .member(&edge.to)
                .map(|target| target.edges.as_slice())
                .unwrap_or_default();
            next.extend(target.iter().filter(|edge| edge.purpose == Purpose::Product));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::lines;

    fn member(name: &str, layer: Option<u64>, edges: &[(&str, Purpose)]) -> Crate {
        let edge = |&(to, purpose): &(&str, Purpose)| Edge {
            to: to.to_owned(),
            purpose,
        };
        let manifest = edges
            .iter()
            .map(|(to, _)| format!("{to}.workspace = true\n"))
            .collect();
        Crate {
            name: name.into(),
            dir: name.into(),
            layer,
            edges: edges.iter().map(edge).collect(),
            external: Vec::new(),
            manifest,
        }
    }

    fn findings(crates: Vec<Crate>) -> Vec<String> {
        lines(&check(&Workspace {
            crates,
            packages: Vec::new(),
        }))
    }

    #[test]
    fn a_crate_may_use_strictly_lower_layers_only() {
        let base = || member("base", Some(1), &[]);
        assert_eq!(
            findings(vec![
                base(),
                member("top", Some(2), &[("base", Purpose::Product)])
            ]),
            [""; 0]
        );
        for layer in [0, 1] {
            let found = findings(vec![
                base(),
                member("top", Some(layer), &[("base", Purpose::Product)]),
            ]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("top/Cargo.toml:1: top (layer "), "{found:?}");
        }
    }

    #[test]
    fn tests_may_use_the_test_layers_but_not_their_equals() {
        let support = || member("support", Some(6), &[]);
        let peer = || member("peer", Some(2), &[]);
        assert_eq!(
            findings(vec![
                support(),
                member("low", Some(2), &[("support", Purpose::Tests)])
            ]),
            [""; 0]
        );
        assert_eq!(
            findings(vec![
                support(),
                member("low", Some(2), &[("support", Purpose::Product)])
            ])
            .len(),
            1
        );
        assert_eq!(
            findings(vec![peer(), member("low", Some(2), &[("peer", Purpose::Tests)])]).len(),
            1
        );
    }

    #[test]
    fn the_lowest_layers_are_plain_data_and_logic() {
        let with_tokio = |layer| Crate {
            external: vec!["serde".to_owned(), "tokio".to_owned()],
            ..member("core", Some(layer), &[])
        };
        assert_eq!(findings(vec![with_tokio(2)]), [""; 0]);
        let found = findings(vec![with_tokio(1)]);
        assert!(
            found.len() == 1 && found[0].contains("depends on tokio"),
            "{found:?}"
        );
    }

    #[test]
    fn a_crate_without_a_layer_is_a_finding() {
        assert_eq!(findings(vec![member("new", None, &[])]).len(), 1);
    }

    #[test]
    fn daemons_are_not_linked_even_through_another_crate() {
        let found = findings(vec![
            member("orchestratord", Some(5), &[]),
            member("support", Some(6), &[("orchestratord", Purpose::Product)]),
            member("pool-managerd", Some(5), &[("support", Purpose::Tests)]),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("pool-managerd links orchestratord"),
            "{found:?}"
        );
    }

    #[test]
    fn the_tests_of_a_dependency_are_not_linked() {
        let found = findings(vec![
            member("orchestratord", Some(5), &[]),
            member("support", Some(6), &[("orchestratord", Purpose::Tests)]),
            member("pool-managerd", Some(5), &[("support", Purpose::Tests)]),
            member("xtask", Some(7), &[("support", Purpose::Product)]),
        ]);
        let linked: Vec<&String> = found.iter().filter(|line| line.contains(" links ")).collect();
        assert_eq!(linked, [""; 0]);
    }

    #[test]
    fn xtask_links_no_daemon() {
        let found = findings(vec![
            member("llama-orch-cli", Some(5), &[]),
            member("xtask", Some(7), &[("llama-orch-cli", Purpose::Product)]),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
