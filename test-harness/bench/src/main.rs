//! `llama-orch-bench`: what the orchestrator costs, beside nginx, on a scripted engine. Starts the release programs that
//! lie beside it, loads them from this one thread, checks every stream, and writes a table, `bench.json` and
//! `bench.svg`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool: its output is the terminal"
)]

mod accounting;
mod child;
mod clock;
mod cpus;
mod files;
mod http;
mod load;
mod measure;
mod options;
mod relay;
mod report;
mod stats;
mod stream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cpus::{Cpus, Side};
use crate::options::Options;
use crate::relay::Ground;
use crate::report::{Machine, Report, Verdict};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(Verdict::Missed) if options.check => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<Verdict> {
    files::raise_limit()?;
    let cpus = Cpus::find()?;
    let machine = Machine::look(&cpus)?;
    cpus.pin(Side::Load)?;
    let (binaries, out) = folders(options.out.as_deref())?;
    let folder = out.join("run");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let ground = Ground {
        durability: options.durability.clone(),
        binaries,
        folder,
        cpus,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime")?;
    let report = runtime.block_on(measured_or_interrupted(options, machine, &ground))?;
    println!("\n{}", report.text());
    for (name, text) in [
        ("bench.json", serde_json::to_string_pretty(&report)?),
        ("bench.svg", report.plot()),
    ] {
        let path = out.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(report.verdict())
}

/// Where the programs are, and where files go: this program lies in `target/release`.
fn folders(out: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    let own = std::env::current_exe().context("where this program is")?;
    let binaries = own.parent().context("a program without a folder")?;
    let target = binaries
        .parent()
        .context("a build folder without a target folder")?;
    let out = out.map_or_else(|| target.join("bench"), Path::to_path_buf);
    Ok((binaries.to_path_buf(), std::path::absolute(out)?))
}

/// An interrupted run ends its programs too: they live in values that are dropped.
async fn measured_or_interrupted(options: &Options, machine: Machine, ground: &Ground) -> Result<Report> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        report = measured(options, machine, ground) => report,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = term.recv() => bail!("told to stop"),
    }
}

async fn measured(options: &Options, machine: Machine, ground: &Ground) -> Result<Report> {
    let arguments: String = std::env::args()
        .skip(1)
        .map(|argument| format!(" {argument}"))
        .collect();
    let mut report = Report {
        command: format!("cargo xtask bench{arguments}"),
        machine,
        notes: Vec::new(),
        figures: Vec::new(),
        distributions: Vec::new(),
    };
    for section in options.sections() {
        let (name, started) = (section.name(), clock::now_ns());
        println!("measuring {name} …");
        let found = measure::measure(section, ground, options.scale()).await;
        let found = found.with_context(|| format!("no figure for {name}"))?;
        report.figures.extend(found.figures);
        report.distributions.extend(found.distributions);
        report.notes.extend(found.notes);
        println!(
            "measured {name} in {:.1} s",
            (clock::now_ns() - started) as f64 / 1e9
        );
    }
    Ok(report)
}
