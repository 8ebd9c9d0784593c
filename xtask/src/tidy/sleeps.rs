//! Fixed sleeps in tests: a test waits for a condition, or runs on a paused clock. A sleep of a literal duration in
//! test code is a finding, unless the line above it (or its own) carries [`MARKER`] with a reason: the rare sleep that
//! *is* the behaviour, such as pacing inside the scripted engine.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Finding;
use super::rust_file::{RustFile, each_sequence};
use super::tree::Tree;

/// Starts the comment that explains a legitimate sleep.
const MARKER: &str = "// fixed sleep:";
const SLEEPS: [&str; 2] = ["sleep", "sleep_until"];

/// Checks the test code of every file.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust.iter().flat_map(of_file).collect()
}

fn of_file(file: &RustFile) -> Vec<Finding> {
    let sleeps = fixed_sleeps(&file.tokens);
    let markers = markers(&file.text);
    let explains = |marker: usize, sleep: usize| marker == sleep || marker + 1 == sleep;
    let unexplained = sleeps
        .iter()
        .filter(|&&sleep| file.is_test(sleep) && !file.is_paused(sleep))
        .filter(|&&sleep| !markers.iter().any(|&(marker, _)| explains(marker, sleep)))
        .map(|&sleep| {
            let message =
                format!("a fixed sleep in a test: wait for a condition, or explain it with `{MARKER} …`");
            Finding::new(&file.path, sleep, message)
        });
    let idle = markers.iter().filter_map(|&(marker, reason)| {
        let message = match (reason, sleeps.iter().any(|&sleep| explains(marker, sleep))) {
            (Reason::Missing, _) => "the comment gives no reason for this fixed sleep",
            (Reason::Given, false) => "the comment explains a fixed sleep that is not there",
            (Reason::Given, true) => return None,
        };
        Some(Finding::new(&file.path, marker, message))
    });
    unexplained.chain(idle).collect()
}

#[derive(Debug, Clone, Copy)]
enum Reason {
    Given,
    Missing,
}

/// The lines with a marker comment.
fn markers(text: &str) -> Vec<(usize, Reason)> {
    let reason = |line: &str| {
        let (before, reason) = line.split_once(MARKER)?;
        let is_quoted = before.contains('"');
        (!is_quoted).then_some(if reason.trim().is_empty() {
            Reason::Missing
        } else {
            Reason::Given
        })
    };
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, reason(line)?)))
        .collect()
}

/// The lines that call a sleep with a duration made of literals.
fn fixed_sleeps(tokens: &TokenStream) -> Vec<usize> {
    let mut lines = Vec::new();
    each_sequence(tokens, &mut |sequence| {
        for pair in sequence.windows(2) {
            if let [TokenTree::Ident(name), TokenTree::Group(arguments)] = pair
                && SLEEPS.iter().any(|sleep| name == sleep)
                && has_literal_duration(arguments)
            {
                lines.push(name.span().start().line);
            }
        }
    });
    lines
}

/// `Duration::from_…(LITERAL)` or `Duration::new(LITERALS)` somewhere in the arguments.
fn has_literal_duration(arguments: &Group) -> bool {
    let mut found = false;
    each_sequence(&arguments.stream(), &mut |sequence| {
        for pair in sequence.windows(2) {
            if let [TokenTree::Ident(constructor), TokenTree::Group(value)] = pair {
                let name = constructor.to_string();
                found |= (name.starts_with("from_") || name == "new") && is_literal(value);
            }
        }
    });
    found
}

fn is_literal(value: &Group) -> bool {
    let tokens: Vec<TokenTree> = value.stream().into_iter().collect();
    let literals = tokens
        .iter()
        .filter(|token| matches!(token, TokenTree::Literal(_)))
        .count();
    let names = tokens
        .iter()
        .any(|token| matches!(token, TokenTree::Ident(_) | TokenTree::Group(_)));
    value.delimiter() == Delimiter::Parenthesis && literals > 0 && !names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing::{lines, places, tree};

    fn findings(text: &str) -> Vec<String> {
        places(&check(&tree(&[("tests/it.rs", text)])))
    }

    #[test]
    fn sleeps_of_a_literal_duration_are_found() {
        assert_eq!(
            findings("async fn a() {\n    tokio::time::sleep(Duration::from_millis(50)).await;\n}\n"),
            ["tests/it.rs:2"]
        );
        assert_eq!(
            findings("fn a() { std::thread::sleep(std::time::Duration::from_secs(2 * 3)) }\n"),
            ["tests/it.rs:1"]
        );
        assert_eq!(
            findings("fn a() { sleep_until(Instant::now() + Duration::new(1, 0)) }\n"),
            ["tests/it.rs:1"]
        );
        assert_eq!(
            findings("fn a() { select! { () = sleep(Duration::from_secs(1)) => {} } }\n"),
            ["tests/it.rs:1"]
        );
    }

    #[test]
    fn other_durations_and_other_waits_are_fine() {
        let text = "const POLL: Duration = Duration::from_millis(5);\nfn a(ms: u64) { sleep(POLL); \
                    sleep(Duration::from_millis(ms)); timeout(Duration::from_secs(5), work()); }\n";
        assert_eq!(findings(text), [""; 0]);
    }

    #[test]
    fn product_code_and_paused_clocks_are_fine() {
        let product = tree(&[("src/a.rs", "fn a() { sleep(Duration::from_secs(1)) }\n")]);
        assert_eq!(lines(&check(&product)), [""; 0]);
        let paused = "#[tokio::test(start_paused = true)]\nasync fn a() {\n    sleep(Duration::from_secs(1)).await;\n}\n";
        assert_eq!(findings(paused), [""; 0]);
    }

    #[test]
    fn an_explained_sleep_is_fine() {
        let above = "fn a() {\n    // fixed sleep: the engine paces its tokens\n    sleep(Duration::from_millis(5));\n}\n";
        assert_eq!(findings(above), [""; 0]);
        let beside =
            "fn a() {\n    sleep(Duration::from_millis(5)); // fixed sleep: the engine paces its tokens\n}\n";
        assert_eq!(findings(beside), [""; 0]);
    }

    #[test]
    fn an_explanation_needs_a_reason_and_a_sleep() {
        let no_reason = "fn a() {\n    // fixed sleep:\n    sleep(Duration::from_millis(5));\n}\n";
        assert_eq!(findings(no_reason), ["tests/it.rs:2"]);
        let no_sleep = "fn a() {\n    // fixed sleep: the engine paces its tokens\n    pace();\n}\n";
        assert_eq!(findings(no_sleep), ["tests/it.rs:2"]);
    }
}
