//! The `llama-orch` command: submits tasks, streams their text, shows what runs where, keeps the models of a GPU box.
//!
//! [`args`] is what can be typed, `commands` is what happens, `render` turns answers into text and knows neither
//! terminal nor network, `console` alone writes, [`exit`] is what the shell learns. The command speaks to the daemons through
//! `llama-orch-client` and fetches models through `model-provisioner`, and that is all its HTTP; it reads the environment
//! once, through `config-schema`.

pub mod args;
mod commands;
mod console;
mod doctor;
pub mod exit;
mod failure;
mod interrupt;
mod render;

use std::process::ExitCode;

use clap::Parser;
use config_schema::Environment;
use tokio::runtime::Builder;

use args::Cli;
use console::Console;
use exit::Exit;
use failure::Failure;

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(&cli, &Environment::from_process()).into(),
        Err(error) => explain(&error),
    }
}

/// Runs one command line.
fn run(cli: &Cli, environment: &Environment) -> Exit {
    let console = Console::new(&cli.global);
    match perform(cli, environment, &console) {
        Ok(exit) => exit,
        Err(failure) => {
            console.failure(&failure);
            failure.exit()
        }
    }
}

fn perform(cli: &Cli, environment: &Environment, console: &Console) -> Result<Exit, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::io("starting the runtime", source))?;
    let outcome = runtime.block_on(commands::perform(&cli.global, environment, console, &cli.command));
    // A write into a pipe that nobody reads never ends; it must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// Help and version go to stdout, mistakes to stderr; clap knows which it is.
fn explain(error: &clap::Error) -> ExitCode {
    let written = error.print();
    match (written, error.use_stderr()) {
        (_, true) => Exit::Usage.into(),
        (Ok(()), false) => Exit::Success.into(),
        (Err(_), false) => Exit::Io.into(),
    }
}
