//! `cargo xtask test`: everything that must hold, cheap faults first. Owns the list of steps.

pub(crate) mod counts;
pub(crate) mod packages;

use std::process::ExitCode;

use anyhow::{Result, bail};

use self::counts::{Counter, Counts};
use crate::process::Cmd;
use crate::steps::{self, OnFailure, Run, Step};
use crate::workspace::Place;
use crate::{cargo, demo, gpu_check, regen, tidy};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only this step; may be given several times.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Show the steps and run nothing.
    #[arg(long)]
    list: bool,
    /// Run the remaining steps and test binaries after a failure.
    #[arg(long)]
    keep_going: bool,
}

static STEPS: [Step; 11] = [
    Step {
        name: "packages",
        about: "system packages that the tests need",
        run: |run, _| packages::ensure(&all_packages(), &run.place.root),
    },
    Step {
        name: "fmt",
        about: "formatting",
        run: |run, _| cargo::format_check(&run.place.root).run(),
    },
    Step {
        name: "tidy",
        about: "the project's own rules",
        run: |run, _| tidy::check(&run.place.root),
    },
    Step {
        name: "clippy",
        about: "lints, warnings are errors",
        run: |run, _| cargo::clippy(&run.place.root).run(),
    },
    Step {
        name: "build",
        about: "every binary, test and bench",
        run: |run, _| cargo::build(&run.place.root).run(),
    },
    Step {
        name: "static-engine",
        about: "the scripted engine without libraries, for images",
        run: |run, _| cargo::build_static_engine(&run.place.root).run(),
    },
    Step {
        name: "regen",
        about: "generated files are current",
        run: |run, _| regen::check(run.place),
    },
    Step {
        name: "test",
        about: "unit, property, integration, BDD and doc tests",
        run: all_tests,
    },
    Step {
        name: "demo",
        about: "the demo with scripted engines",
        run: |run, _| demo::show(run.place, &[]),
    },
    Step {
        name: "demo-real-engine",
        about: "the demo with a real engine",
        run: |run, _| demo::show(run.place, &["--real-engine"]),
    },
    Step {
        name: "gpu-check",
        about: "ci/gpu-check over fake GPUs",
        run: |run, _| gpu_check::check(run.place),
    },
];

/// Runs the chosen steps; the last line tells how many test cases passed and failed.
///
/// # Errors
/// The workspace cannot be found or a step is unknown; failures of steps are in the exit code.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let steps = choose(&args.only)?;
    if args.list {
        steps
            .iter()
            .for_each(|step| println!("{:18} {}", step.name, step.about));
        return Ok(ExitCode::SUCCESS);
    }
    let place = Place::find()?;
    let on_failure = if args.keep_going {
        OnFailure::KeepGoing
    } else {
        OnFailure::Stop
    };
    let report = steps::run(
        &steps,
        &Run {
            place: &place,
            on_failure,
        },
    )?;
    println!("\n{}{}", report.table(), report.counts);
    Ok(report.exit_code())
}

fn all_packages() -> Vec<packages::DebianPackage> {
    let mut all = Vec::from(packages::CONTAINERS);
    all.push(packages::PYTHON_VENV);
    all
}

fn choose(only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| STEPS.iter().all(|step| step.name != **name))
    {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!(
            "no step is called `{unknown}`; the steps are: {}",
            names.join(", ")
        );
    }
    Ok(STEPS
        .iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect())
}

fn all_tests(run: &Run<'_>, counts: &mut Counts) -> Result<()> {
    let command = match run.on_failure {
        OnFailure::Stop => cargo::test(&run.place.root),
        OnFailure::KeepGoing => cargo::test(&run.place.root).args(["--no-fail-fast"]),
    };
    counted(command, run.place, counts)
}

/// Tells the tests where the scripted engine is that needs no library.
const STATIC_ENGINE: &str = "LLAMA_ORCH_STATIC_ENGINE";

/// Runs the unit tests of the library crates.
///
/// # Errors
/// A test fails or does not compile.
pub(crate) fn library_tests(run: &Run<'_>, counts: &mut Counts) -> Result<()> {
    counted(cargo::test_libraries(&run.place.root), run.place, counts)
}

fn counted(command: Cmd, place: &Place, counts: &mut Counts) -> Result<()> {
    let mut counter = Counter::default();
    let ended = command
        .env(demo::PROGRAMS, place.binaries())
        .env(STATIC_ENGINE, place.static_engine())
        .run_lines(|line| counter.line(line));
    *counts += counter.finish(&ended);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_are_chosen_unless_some_are_named() {
        assert_eq!(choose(&[]).unwrap().len(), STEPS.len());
        let names: Vec<&str> = choose(&["test".to_owned(), "fmt".to_owned()])
            .unwrap()
            .iter()
            .map(|s| s.name)
            .collect();
        assert_eq!(
            names,
            ["fmt", "test"],
            "the order is the list's, not the command line's"
        );
    }

    #[test]
    fn an_unknown_step_is_answered_with_the_known_ones() {
        let error = choose(&["tests".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("`tests`") && error.contains("clippy, build"),
            "{error}"
        );
    }

    #[test]
    fn steps_have_different_names() {
        let names: std::collections::BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }
}
