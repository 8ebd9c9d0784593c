//! `orchestratord`: reads the configuration, then serves or prints what was asked for.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use config_schema::{Environment, Loaded};
use narration_core::logging;
use orchestratord::api::spec;
use orchestratord::app;
use orchestratord::args::{Args, Command, ConfigAction, Plane};
use tokio_util::task::TaskTracker;

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Logging may not exist yet; a person or a service manager reads this.
            let _unwritable = writeln!(io::stderr(), "orchestratord: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(Command::Openapi { plane }) => return print(&document(plane)?),
        Some(Command::Config {
            action: ConfigAction::Schema,
        }) => {
            return print(&format!("{:#}\n", config_schema::json_schema()));
        }
        _ => {}
    }
    let loaded = config_schema::load(&Environment::from_process(), &args.overrides())?;
    match args.command {
        Some(Command::Config {
            action: ConfigAction::Dump,
        }) => print(&loaded.dump()),
        Some(_) => Ok(ExitCode::SUCCESS),
        None => serve(loaded),
    }
}

fn serve(loaded: Loaded) -> anyhow::Result<ExitCode> {
    logging::init(loaded.config.log.format, &loaded.config.log.level)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // On a worker: what `block_on` itself polls lives on the main thread, and every admission would wake it.
    runtime.block_on(TaskTracker::new().spawn_on(app::run(loaded.config), runtime.handle()))?
}

fn document(plane: Plane) -> anyhow::Result<String> {
    let document = match plane {
        Plane::Data => spec::data(),
        Plane::Control => spec::control(),
    };
    Ok(document.to_yaml()?)
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
