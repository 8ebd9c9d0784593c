//! The command line: flags become overrides of the configuration, sub-commands choose what to do with it.
//! Prints configuration problems before logging exists, and turns every outcome into an exit status.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use config_schema::{DEFAULT_PLACES, Environment, Loaded, Overrides, load};
use tokio::runtime::{Builder, Runtime};

use crate::daemon::{self, Ended};
use crate::engine::shim;
use crate::trouble::chain;

/// The daemon could not start or run.
const FAILED: u8 = 1;
/// The command line or the configuration is not usable.
const UNUSABLE: u8 = 2;

/// Threads of the runtime: reports, health looks and log lines are light work, on a box whose cores belong to
/// the engines.
const WORKERS: usize = 2;

/// How long blocking calls (a look at a file on a dead disk) may hold up the exit.
const LEFT_BEHIND: Duration = Duration::from_millis(200);

/// The daemon of a GPU box: supervises engines on its GPUs and reports to the orchestrator.
///
/// Every flag has a key in the configuration file; flag > environment > file > default. Exit status: 0 after
/// a stop signal, 1 when it cannot start, 2 for a wrong command line or configuration, 128 + signal after a
/// second signal.
#[derive(Debug, Parser)]
#[command(version, after_help = format!("Configuration file: {DEFAULT_PLACES}."))]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Flags {
    /// Configuration file; it must exist.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, IP:port [env POOL_MANAGERD_ADDR].
    #[arg(long, global = true, value_name = "ADDR")]
    addr: Option<String>,
    /// The orchestrator [env ORCHD_URL].
    #[arg(long, global = true, value_name = "URL")]
    orchestrator_url: Option<String>,
    /// The node's name [env POOL_MANAGERD_NODE_ID].
    #[arg(long, global = true, value_name = "ID")]
    node_id: Option<String>,
    /// Where state is kept [env POOL_MANAGERD_STATE_DIR].
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<String>,
    /// The NVML library [env POOL_MANAGERD_NVML_LIBRARY].
    #[arg(long, global = true, value_name = "FILE")]
    nvml_library: Option<String>,
    /// File that holds the token [env AUTH_TOKEN_FILE].
    #[arg(long, global = true, value_name = "FILE")]
    auth_token_file: Option<String>,
    /// json or pretty [env LOG_FORMAT].
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Level or filter directives [env LOG_LEVEL].
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default).
    Run,
    /// Look at the configuration without running.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether it is usable.
    Check,
    /// Print the effective values with their origins; secrets are masked.
    Dump,
}

impl From<Flags> for Overrides {
    fn from(flags: Flags) -> Self {
        Self::default()
            .config_file(flags.config)
            .set("--addr", "pool_managerd.addr", flags.addr)
            .set(
                "--orchestrator-url",
                "pool_managerd.orchestrator_url",
                flags.orchestrator_url,
            )
            .set("--node-id", "pool_managerd.node_id", flags.node_id)
            .set("--state-dir", "pool_managerd.state_dir", flags.state_dir)
            .set("--nvml-library", "pool_managerd.nvml_library", flags.nvml_library)
            .set("--auth-token-file", "auth.token_file", flags.auth_token_file)
            .set("--log-format", "log.format", flags.log_format)
            .set("--log-level", "log.level", flags.log_level)
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(status) = shim::dispatch(std::env::args_os().skip(1)) {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let environment = Environment::from_process();
    let loaded = match load(&environment, &cli.flags.into()) {
        Ok(loaded) => loaded,
        Err(errors) => return fail(&errors, UNUSABLE),
    };
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run(&loaded, &environment),
        Command::Config { what } => show(&loaded, &what),
    }
}

/// Help and version go to standard output with status 0, mistakes to standard error with status 2.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed terminal cannot be told anything.
    let _printed_or_gone = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn show(loaded: &Loaded, what: &ConfigCommand) -> ExitCode {
    let text = match what {
        ConfigCommand::Dump => loaded.dump(),
        ConfigCommand::Check => verdict(loaded),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, FAILED),
    }
}

fn verdict(loaded: &Loaded) -> String {
    let warnings = loaded
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    let source = loaded.file.as_ref().map_or_else(
        || "the configuration is usable (no file)\n".to_owned(),
        |file| format!("the configuration is usable ({})\n", file.display()),
    );
    warnings.chain([source]).collect()
}

fn run(loaded: &Loaded, environment: &Environment) -> ExitCode {
    let log = &loaded.config.log;
    if let Err(error) = narration_core::logging::init(log.format, &log.level) {
        return fail(&error, UNUSABLE);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILED),
    };
    let ended = runtime.block_on(daemon::run(&loaded.config, environment));
    runtime.shutdown_timeout(LEFT_BEHIND);
    match ended {
        Ok(Ended::Orderly) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce(signal)) => ExitCode::from(signal.exit_status()),
        Err(error) => fail(&error, FAILED),
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
}

/// Says why it ends.
fn fail(error: &dyn Error, status: u8) -> ExitCode {
    // A closed terminal cannot be told anything.
    let _printed_or_gone = writeln!(io::stderr(), "pool-managerd: {}", chain(error));
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_sets_a_key_that_exists() {
        let line = "pool-managerd --addr 127.0.0.1:0 --orchestrator-url http://127.0.0.1:1 --node-id n --state-dir /s \
             --nvml-library /l --log-format pretty --log-level debug";
        let cli = Cli::try_parse_from(line.split_ascii_whitespace()).unwrap();
        let environment = Environment::of([("HOME", "/nonexistent")]);
        let config = load(&environment, &cli.flags.into()).unwrap().config;
        let node = config.pool_managerd;
        assert_eq!(node.addr.to_string(), "127.0.0.1:0");
        assert_eq!(node.orchestrator_url.as_str(), "http://127.0.0.1:1");
        assert_eq!(node.node_id.as_str(), "n");
        assert_eq!(node.state_dir, PathBuf::from("/s"));
        assert_eq!(node.nvml_library, Some(PathBuf::from("/l")));
        assert_eq!(config.log.level, "debug");
    }
}
