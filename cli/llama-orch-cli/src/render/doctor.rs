//! Findings, worst last, so that they are what is read first above the prompt; each with its lines to paste.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::table::Look;
use super::text::{clean, clean_line};
use crate::doctor::{Finding, Level};

pub(crate) fn text(findings: &[Finding], look: Look) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.check.len())
        .max()
        .unwrap_or_default();
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| rank(finding.level));
    let mut text = String::new();
    for finding in sorted {
        let (sign, style) = sign(finding.level, look);
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "{style}{sign}{style:#} {:width$}  {}",
            finding.check,
            clean_line(&finding.what)
        );
        for line in &finding.fix {
            let _infallible = writeln!(text, "  {:width$}  $ {}", "", clean(line));
        }
    }
    let _infallible = writeln!(text, "{}", sum(findings));
    text
}

const fn rank(level: Level) -> u8 {
    match level {
        Level::Ok => 0,
        Level::Note => 1,
        Level::Warning => 2,
        Level::Problem => 3,
    }
}

const fn sign(level: Level, look: Look) -> (&'static str, Style) {
    let (sign, color) = match level {
        Level::Ok => ("✓", AnsiColor::Green),
        Level::Note => ("·", AnsiColor::White),
        Level::Warning => ("!", AnsiColor::Yellow),
        Level::Problem => ("✗", AnsiColor::Red),
    };
    match look {
        Look::Coloured => (sign, color.on_default()),
        Look::Piped | Look::Plain => (sign, Style::new()),
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn sum(findings: &[Finding]) -> String {
    let plural = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    format!(
        "{}, {}",
        plural(count(findings, Level::Problem), "problem"),
        plural(count(findings, Level::Warning), "warning")
    )
}

pub(crate) fn document(findings: &[Finding]) -> Value {
    json!({
        "problems": count(findings, Level::Problem),
        "warnings": count(findings, Level::Warning),
        "findings": findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_last_and_has_its_lines() {
        let findings = [
            Finding::problem("driver", "the NVIDIA kernel driver is not loaded")
                .fix(["sudo modprobe nvidia"]),
            Finding::ok("clock", "is kept by the network"),
            Finding::new("disk", Level::Warning, "8 GiB free\nfor models").fix(["llama-orch models list"]),
        ];
        insta::assert_snapshot!("doctor", text(&findings, Look::Piped));
        let document = document(&findings);
        assert_eq!(
            (&document["problems"], &document["warnings"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(document["findings"][0]["fix"], json!(["sudo modprobe nvidia"]));
        assert_eq!(document["findings"][1].get("fix"), None);
    }
}
