//! The command line of the daemon. Flags fill the configuration's overrides; nothing else reads
//! them.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use config_schema::Overrides;

/// Admits tasks, queues them, places them on GPU pools and streams their tokens.
#[derive(Debug, Parser)]
#[command(name = "orchestratord", version, about)]
pub struct Args {
    /// Configuration file (default: $LLAMA_ORCH_CONFIG, then the user's and the system's one).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen address, e.g. 127.0.0.1:8080; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    addr: Option<String>,
    /// File that holds the token clients and nodes must present.
    #[arg(long, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// json or pretty.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Level or filter directives, e.g. info or orchestratord=debug.
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the binary can do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Prints the OpenAPI document of one plane as YAML.
    Openapi {
        /// Which plane.
        plane: Plane,
    },
    /// Looks at the configuration.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
}

/// The two planes of the HTTP contract.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Plane {
    /// Tasks.
    Data,
    /// Nodes, pools, workers, operations.
    Control,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigAction {
    /// Prints the JSON schema of the file.
    Schema,
    /// Prints the effective configuration with the origin of each value; secrets are masked.
    Dump,
    /// Checks it and prints nothing when it is fine.
    Check,
}

impl Args {
    /// What the flags say, for the configuration.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        Overrides::default()
            .config_file(self.config.clone())
            .set("--addr", "orchestratord.addr", self.addr.clone())
            .set(
                "--auth-token-file",
                "auth.token_file",
                self.auth_token_file.as_ref().map(path),
            )
            .set("--log-format", "log.format", self.log_format.clone())
            .set("--log-level", "log.level", self.log_level.clone())
    }
}
