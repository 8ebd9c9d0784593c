//! The crate graph as a checked-in text, so that a new edge between crates is seen in review.

use std::path::Path;

use super::Finding;
use crate::regen::{Drift, drift};
use crate::workspace::{Crate, Purpose, Workspace};

/// Where the graph is checked in.
pub(crate) const PATH: &str = "ci/crate-graph.txt";

const HEADER: &str = "# Written by `cargo xtask regen`: each crate by layer, the crates it is built on, and those of its tests.\n";

/// The text of the graph: one line per crate, lowest layer first.
pub(crate) fn render(workspace: &Workspace) -> String {
    let mut crates: Vec<&Crate> = workspace.crates.iter().collect();
    crates.sort_by_key(|member| (member.layer, member.name.as_str()));
    let lines: String = crates.into_iter().map(line).collect();
    format!("{HEADER}{lines}")
}

fn line(member: &Crate) -> String {
    let layer = member
        .layer
        .map_or_else(|| "L?".to_owned(), |layer| format!("L{layer}"));
    let list = |label: &str, purpose| match targets(member, purpose) {
        targets if targets.is_empty() => String::new(),
        targets => format!(" {label} {}", targets.join(", ")),
    };
    format!(
        "{layer} {}{}{}\n",
        member.name,
        list("->", Purpose::Product),
        list("| tests ->", Purpose::Tests)
    )
}

fn targets(member: &Crate, purpose: Purpose) -> Vec<&str> {
    member
        .edges
        .iter()
        .filter(|edge| edge.purpose == purpose)
        .map(|edge| edge.to.as_str())
        .collect()
}

/// Compares the checked-in graph with the workspace.
pub(super) fn check(root: &Path, workspace: &Workspace) -> Option<Finding> {
    match drift(root, PATH, &render(workspace)) {
        Drift::Current => None,
        Drift::Differs(diff) => Some(Finding::new(
            PATH,
            1,
            format!("not current, `cargo xtask regen` writes it:\n{diff}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::Fixture;

    #[test]
    fn lower_layers_come_first_and_edges_follow_the_name() {
        let fixture = Fixture::clean();
        assert_eq!(
            render(&fixture.workspace()),
            format!("{HEADER}L0 lower\nL1 upper -> lower\n")
        );
    }

    #[test]
    fn edges_of_tests_are_told_apart() {
        let fixture = Fixture::clean();
        fixture.replace("upper/Cargo.toml", "[dependencies]", "[dev-dependencies]");
        assert!(render(&fixture.workspace()).ends_with("L1 upper | tests -> lower\n"));
    }

    #[test]
    fn a_new_edge_is_a_finding_with_the_difference() {
        let fixture = Fixture::clean();
        fixture.replace("upper/Cargo.toml", "lower.workspace = true\n", "");
        let finding = check(fixture.root(), &fixture.workspace()).unwrap();
        assert!(
            finding.message.contains("-L1 upper -> lower\n+L1 upper\n"),
            "{finding}"
        );
    }
}
