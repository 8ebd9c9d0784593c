//! Runs the scenarios of `tests/features` against real daemons, engines that follow a script and fake
//! GPUs. A step that is undefined, ambiguous or skipped fails the run.

mod steps;
mod world;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use cucumber::cli::{self, Parser as _};
use cucumber::event::ScenarioFinished;
use cucumber::writer::{self, Coloring, Stats, Verbosity};
use cucumber::{World as _, WriterExt as _, gherkin, parser, runner};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use test_harness_bdd::{Coverage, Libtest};
use test_harness_support::binaries;

use crate::world::World;

const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features");

/// What the scenarios start. Asking for them builds them where that has not been done, before the
/// first scenario runs and not inside its time limits.
const PROGRAMS: [&str; 3] = ["orchestratord", "pool-managerd", "scripted-engine"];

/// What the daemons of all scenarios have told.
static TOLD: Mutex<Option<Coverage>> = Mutex::new(None);

type Options = cli::Opts<parser::basic::Cli, runner::basic::Cli, writer::basic::Cli, Libtest>;

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    for program in PROGRAMS {
        binaries::bin_path(program)?;
    }
    // One thread: see `Viewer::read_to_end_while`.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(run(options)))
}

async fn run(options: Options) -> ExitCode {
    let libtest = options.custom.clone();
    let whole_suite = libtest.wants_all() && options.re_filter.is_none() && options.tags_filter.is_none();
    let output = writer::Basic::new(io::stdout(), Coloring::Auto, Verbosity::ShowWorld);
    let ran = World::cucumber()
        .with_writer(output.summarized())
        .fail_on_skipped_with(|_, _, _| true)
        .max_concurrent_scenarios(libtest.concurrent())
        .after(end)
        .with_cli(options)
        .filter_run(FEATURES, move |feature, _, scenario| {
            libtest.wants(&feature.name, &scenario.name)
        })
        .await;
    let nothing_ran = ran.passed_steps() + ran.failed_steps() == 0;
    let untold = narration(whole_suite && !ran.execution_has_failed());
    if ran.execution_has_failed() || (whole_suite && nothing_ran) || untold {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Shows how much the daemons told; whether a whole run told too little.
fn narration(whole: bool) -> bool {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(told) = told else { return false };
    let faults = if whole { told.faults() } else { Vec::new() };
    let mut out = io::stdout().lock();
    // A closed standard output is nobody's loss.
    _ = writeln!(out, "{told}");
    for fault in &faults {
        _ = writeln!(out, "narration: {fault}");
    }
    !faults.is_empty()
}

/// Ends what a scenario has started, whatever became of it.
fn end<'a>(
    _: &'a gherkin::Feature,
    _: Option<&'a gherkin::Rule>,
    _: &'a gherkin::Scenario,
    finished: &'a ScenarioFinished,
    world: Option<&'a mut World>,
) -> LocalBoxFuture<'a, ()> {
    async move {
        if let Some(world) = world {
            let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            told.get_or_insert_default().read(&world.logs());
            world.end(finished);
        }
    }
    .boxed_local()
}
