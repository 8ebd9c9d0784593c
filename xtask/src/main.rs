//! `cargo xtask COMMAND`: the project's own commands. This file parses the command line and calls one module.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: its output is the terminal"
)]

mod bench;
mod cargo;
mod chaos;
mod children;
mod crash;
mod demo;
mod dev_loop;
mod gpu_check;
mod process;
mod regen;
mod steps;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of llama-orch.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole system on a machine without a GPU.
    Demo(demo::Args),
    /// Check everything that must hold before a change is accepted.
    Test(test::Args),
    /// Check the rules that no compiler knows: layers, manifests, modules, tests, requirement ids.
    Tidy(tidy::Args),
    /// Write the generated files, or check that they are current.
    Regen(regen::Args),
    /// Measure what the orchestrator costs, beside nginx.
    Bench(bench::Args),
    /// Kill the orchestrator, cut its power and race its cancels, many times.
    Crash(crash::Args),
    /// Kill engines and pool-managerd under load, many times.
    Chaos(chaos::Args),
    /// The fast inner loop: format, lint, regenerate, library tests, tidy.
    #[command(name = "dev:loop")]
    DevLoop(dev_loop::Args),
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Regen(args) => regen::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Crash(args) => crash::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::DevLoop(args) => dev_loop::run(&args),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
