//! `cargo xtask dev:loop`: what is worth running after each edit. Writes formatting and generated files.

use std::process::ExitCode;

use anyhow::Result;

use crate::steps::{self, OnFailure, Run, Step};
use crate::workspace::Place;
use crate::{cargo, regen, test, tidy};

/// Options of `cargo xtask dev:loop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the remaining steps after a failure.
    #[arg(long)]
    keep_going: bool,
}

const STEPS: [Step; 5] = [
    Step {
        name: "fmt",
        about: "source code, formatted in place",
        run: |run, _| cargo::format(&run.place.root).run(),
    },
    Step {
        name: "clippy",
        about: "lints, warnings are errors",
        run: |run, _| cargo::clippy(&run.place.root).run(),
    },
    Step {
        name: "regen",
        about: "generated files, written",
        run: |run, _| regen::write(run.place),
    },
    Step {
        name: "lib-tests",
        about: "unit tests of the library crates",
        run: test::library_tests,
    },
    Step {
        name: "tidy",
        about: "the project's own rules",
        run: |run, _| tidy::check(&run.place.root),
    },
];

/// Runs the loop once.
///
/// # Errors
/// The workspace cannot be found; failures of steps are in the exit code.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    let on_failure = if args.keep_going {
        OnFailure::KeepGoing
    } else {
        OnFailure::Stop
    };
    let steps: Vec<&Step> = STEPS.iter().collect();
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
