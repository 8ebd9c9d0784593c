//! `node …`: GPU boxes.

use std::path::PathBuf;

use api_types::NodeId;
use clap::{Args, Subcommand};
use config_schema::{BaseUrl, ListenAddr};

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Let this GPU box join an orchestrator: ask it, look at the box, write a configuration for pool-managerd
    ///
    /// Run on the GPU box, with --addr naming the orchestrator. The token's file (--auth-token-file) goes into the
    /// configuration by its name. Nothing is started and nothing is sent but one question.
    Join(NodeJoinArgs),
}

/// How a box joins.
#[derive(Debug, Args)]
pub struct NodeJoinArgs {
    /// The node's name, unique among those of the orchestrator [default: the host name]
    #[arg(long, value_name = "ID")]
    pub node_id: Option<NodeId>,
    /// Where pool-managerd shall listen [default: port 9200 of the address from which this box reaches the orchestrator]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<ListenAddr>,
    /// The URL at which the orchestrator reaches pool-managerd, where that is not http://IP:PORT
    #[arg(long, value_name = "URL")]
    pub advertise_url: Option<BaseUrl>,
    /// The file to write; it must not exist [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file
    #[arg(long, requires = "out")]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser;

    /// REQ-NODE-JOIN.
    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (line, reason) in [
            (&["--listen", "box:9200"][..], "IP:port"),
            (&["--listen", "0.0.0.0"], "IP:port"),
            (&["--advertise-url", "box:9200"], "http://host"),
            (&["--node-id", "a/b"], "NodeId"),
            (&["--force"], "--out"),
        ] {
            let line = ["llama-orch", "node", "join"].iter().chain(line);
            let error = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
