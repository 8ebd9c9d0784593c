//! Whether engines could run in containers: what container-runtime's own check finds, here for people. Pure.

use container_runtime::{Preflight, Severity};

use super::distribution::Distribution;
use super::{Finding, Level};

/// What was found; `needed` tells whether a pool runs in a container.
pub(crate) fn findings(preflight: &Preflight, needed: bool, here: Distribution) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(runtime) = &preflight.runtime {
        let facts = runtime.facts();
        findings.push(Finding::ok(
            "containers",
            format!("{} {}", facts.backend, facts.version),
        ));
    }
    findings.extend(preflight.findings.iter().map(|finding| {
        let level = match (finding.severity, needed) {
            (_, false) => Level::Note,
            (Severity::Refusal, true) => Level::Problem,
            (Severity::Warning, true) => Level::Warning,
        };
        let hint = finding.problem.hint();
        // Hints that are a command are written so.
        let command = hint.split('`').nth(1).map(|command| format!("sudo {command}"));
        let fix = command.unwrap_or_else(|| here.containers().to_owned());
        Finding::new("containers", level, format!("{}; {hint}", finding.problem)).fix([fix])
    }));
    findings
}

/// Said when the runtime did not answer in the time that there is.
pub(crate) fn late(needed: bool) -> Finding {
    let level = if needed { Level::Warning } else { Level::Note };
    Finding::new(
        "containers",
        level,
        "the container runtime did not answer in time",
    )
    .fix(["podman info"])
}
