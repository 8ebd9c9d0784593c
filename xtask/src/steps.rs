//! Runs named steps one after the other, shows what each took, and holds what they counted.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::children::{self, Watch};
use crate::test::counts::Counts;
use crate::workspace::Place;

/// One named piece of work.
#[derive(Debug)]
pub(crate) struct Step {
    /// The name on the command line and in the table.
    pub(crate) name: &'static str,
    /// What a failure of this step means, in a few words.
    pub(crate) about: &'static str,
    /// Does the work; adds the test cases it ran to the counts.
    pub(crate) run: fn(&Run<'_>, &mut Counts) -> Result<()>,
}

/// What a step may know.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Where the workspace and its build output are.
    pub(crate) place: &'a Place,
    /// Whether a failure ends the run.
    pub(crate) on_failure: OnFailure,
}

/// What follows a failed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Nothing: later steps are not run.
    Stop,
    /// The next step.
    KeepGoing,
}

/// How all steps ended.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    /// Test cases over all steps.
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Line {
    name: &'static str,
    end: End,
    wall: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    NotRun,
}

/// Runs `steps` in order. A step that leaves a process behind has failed.
///
/// # Errors
/// The process table cannot be read; failures of steps are in the report.
pub(crate) fn run(steps: &[&Step], run: &Run<'_>) -> Result<Report> {
    children::adopt_orphans()?;
    let mut report = Report::default();
    for step in steps {
        let line = if report.has_failed() && run.on_failure == OnFailure::Stop {
            Line {
                name: step.name,
                end: End::NotRun,
                wall: Duration::ZERO,
            }
        } else {
            run_one(step, run, &mut report.counts)?
        };
        report.lines.push(line);
    }
    Ok(report)
}

fn run_one(step: &Step, run: &Run<'_>, counts: &mut Counts) -> Result<Line> {
    println!("\n== {}: {}", step.name, step.about);
    let watch = Watch::start()?;
    let started = now();
    let ended = (step.run)(run, counts);
    let ended = both(ended, watch.finish());
    let wall = started.elapsed();
    let end = match &ended {
        Ok(()) => End::Passed,
        Err(error) => {
            println!("step {} failed: {error:#}", step.name);
            End::Failed
        }
    };
    println!("== {}: {} in {:.1} s", step.name, end.name(), wall.as_secs_f64());
    Ok(Line {
        name: step.name,
        end,
        wall,
    })
}

fn both(work: Result<()>, afterwards: Result<()>) -> Result<()> {
    match (work, afterwards) {
        (Ok(()), afterwards) => afterwards,
        (work, Ok(())) => work,
        (Err(work), Err(afterwards)) => bail!("{work:#}; and {afterwards:#}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask has no async runtime whose clock a test could pause"
)]
fn now() -> Instant {
    Instant::now()
}

impl Report {
    /// The table of all steps with their wall time.
    pub(crate) fn table(&self) -> String {
        let width = self
            .lines
            .iter()
            .map(|line| line.name.len())
            .max()
            .unwrap_or_default();
        let row = |line: &Line| match line.end {
            End::NotRun => format!("  {:width$}  not run\n", line.name),
            end => format!(
                "  {:width$}  {:7}  {:7.1} s\n",
                line.name,
                end.name(),
                line.wall.as_secs_f64()
            ),
        };
        let total: Duration = self.lines.iter().map(|line| line.wall).sum();
        let rows: String = self.lines.iter().map(row).collect();
        format!(
            "{rows}  {:width$}  {:7}  {:7.1} s\n",
            "total",
            "",
            total.as_secs_f64()
        )
    }

    /// Success only if no step failed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.has_failed() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn has_failed(&self) -> bool {
        self.lines.iter().any(|line| line.end == End::Failed)
    }
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotRun => "not run",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ends: &[(&'static str, End)]) -> Report {
        let line = |&(name, end)| Line {
            name,
            end,
            wall: Duration::from_millis(1500),
        };
        Report {
            lines: ends.iter().map(line).collect(),
            counts: Counts::default(),
        }
    }

    #[test]
    fn the_table_has_a_row_per_step_and_the_sum() {
        let report = report(&[
            ("fmt", End::Passed),
            ("clippy", End::Failed),
            ("test", End::NotRun),
        ]);
        let expected = "  fmt     passed       1.5 s\n  clippy  FAILED       1.5 s\n  test    not run\n  \
                        total                4.5 s\n";
        assert_eq!(report.table(), expected);
    }

    #[test]
    fn one_failed_step_fails_the_run() {
        assert!(report(&[("fmt", End::Passed), ("test", End::Failed)]).has_failed());
        assert!(!report(&[("fmt", End::Passed)]).has_failed());
    }

    #[test]
    fn a_failure_and_a_process_left_behind_are_both_told() {
        let error = both(
            Err(anyhow::anyhow!("two tests failed")),
            Err(anyhow::anyhow!("left 1 process")),
        );
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("two tests failed") && text.contains("left 1 process"),
            "{text}"
        );
        assert!(both(Ok(()), Err(anyhow::anyhow!("left 1 process"))).is_err());
        assert!(both(Ok(()), Ok(())).is_ok());
    }
}
