//! What commands need that work on this machine instead of asking the orchestrator.

use std::path::PathBuf;

use clap::Args;

/// Where this machine's configuration is.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// The daemons' configuration file [env: LLAMA_ORCH_CONFIG] [default: ~/.config/llama-orch/config.toml, then
    /// /etc/llama-orch/config.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}
