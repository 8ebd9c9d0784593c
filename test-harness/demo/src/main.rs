//! `cargo xtask demo`: real daemons on loopback over fake GPUs, driven through `llama-orch` like a
//! person would. It starts processes, writes below the target folder, and leaves nothing behind.

mod cli;
mod columns;
mod stage;
mod story;

use std::process::ExitCode;

use clap::Parser;

/// Starts the whole system, submits three tasks, streams them side by side, shows their receipts.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo")]
struct Args {
    /// Let the pools run the real llama.cpp server (from a Python package) on a tiny generated model.
    #[arg(long)]
    real_engine: bool,
    /// Leave everything running until Ctrl-C, and say what to try next.
    #[arg(long)]
    keep: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(story::tell(args.real_engine, args.keep))?;
    Ok(ExitCode::SUCCESS)
}
