//! What can be typed. Parsing only: every value is checked as far as that needs no daemon.

mod artifact;
mod doctor;
mod duration;
mod local;
mod models;
mod node;
mod placement;
mod plan;
mod pool;
mod task;
mod whole;

use std::path::PathBuf;

use api_types::{SessionId, TaskId, TaskState};
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::exit;

pub use artifact::{ArtifactCommand, ArtifactPutArgs};
pub use doctor::DoctorArgs;
pub use local::LocalArgs;
pub use models::{AddArgs, ModelsArgs, ModelsCommand, PullArgs};
pub use node::{NodeCommand, NodeJoinArgs};
pub use placement::PlacementArgs;
pub use plan::PlanArgs;
pub use pool::{Patience, PoolCommand, PoolLoadArgs, PoolLogsArgs, PoolReloadArgs, PoolStopArgs};
pub use task::TaskArgs;
pub use whole::{EmbedArgs, RerankArgs, WholeArgs};

/// Submit tasks to a llama-orch orchestrator, stream their text, see what runs where.
///
/// Text goes to stdout exactly as the model writes it; everything else that is said to a person goes to stderr.
#[derive(Debug, Parser)]
#[command(name = "llama-orch", version, max_term_width = 100, after_help = exit::help())]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where orchestratord is: host:port or a URL [env: ORCHD_URL, ORCHD_ADDR] [default: http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDR")]
    pub addr: Option<String>,
    /// The token to show [env: AUTH_TOKEN]. Other users see the flag in the process list: prefer the variable or
    /// the file
    #[arg(long, global = true, value_name = "TOKEN")]
    pub auth_token: Option<SecretString>,
    /// A file that holds the token and that only its owner can read [env: AUTH_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "auth_token")]
    pub auth_token_file: Option<PathBuf>,
    /// Write JSON to stdout, and nothing else: one document, or one line per event of a stream
    #[arg(long, global = true)]
    pub json: bool,
    /// Never colour [env: NO_COLOR]
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit a task and stream its text. Ctrl-C cancels the task; pressed again, it leaves at once
    Run(Box<TaskArgs>),
    /// Turn texts into vectors: one line of JSON a text, in their order
    Embed(Box<EmbedArgs>),
    /// Rank documents against a query: score, place and document, best first
    Rerank(Box<RerankArgs>),
    /// Submit, follow, cancel and list tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Look at a session or end it
    #[command(subcommand)]
    Session(SessionCommand),
    /// Store, fetch and list artifacts: what clients keep, and the traces of tasks
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    /// List the pools: what serves which model on which GPUs, and whether it is ready
    Pools,
    /// Look at one pool; drain, load, unload and reload it; read its engine's output
    #[command(subcommand)]
    Pool(PoolCommand),
    /// List the GPU boxes and their GPUs
    Nodes,
    /// Let a GPU box join
    #[command(subcommand)]
    Node(NodeCommand),
    /// List what can be asked for right now
    Capabilities,
    /// Fetch, verify and list the models of this machine
    Models(ModelsArgs),
    /// Tell whether a model fits on this machine's GPUs, with how much context and how many slots, and why not
    Plan(Box<PlanArgs>),
    /// Tell what stands in the way of serving models on this machine, with the lines that help
    ///
    /// Driver, GPUs and who holds their memory, configuration, pools, disk, ports, containers, CUDA toolkit, clock. Changes
    /// nothing and takes less than a second. Exit 10 when there is a problem; warnings and notes are none.
    Doctor(DoctorArgs),
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Submit a task and print its id, without waiting for it
    Submit(Box<TaskArgs>),
    /// Follow a task's text, from its beginning or after an event. Ctrl-C cancels the task
    Stream {
        /// The task
        task: TaskId,
        /// Go on after this event, as `--json` shows its id
        #[arg(long, value_name = "ID")]
        last_event_id: Option<String>,
    },
    /// Cancel a task; a finished one stays as it is
    Cancel {
        /// The task
        task: TaskId,
    },
    /// Show where a task is: state, position, times, tokens
    Show {
        /// The task
        task: TaskId,
    },
    /// Tell why a task is where it is, and check that the decision replays to the same answer
    Explain {
        /// The task
        task: TaskId,
    },
    /// Tell where a task would go, and why, without submitting it
    Preview(Box<TaskArgs>),
    /// List tasks, newest first
    List {
        /// Only tasks in this state: queued, running, completed, failed, canceled, expired or evicted
        #[arg(long, value_name = "STATE")]
        state: Option<TaskState>,
        /// Most tasks to list
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Where the page before ended
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
}

/// What to do with a session.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Show a session: turns, budgets, how long it lasts, where its cache is warm
    Show {
        /// The session, as tasks name it with --session
        session: SessionId,
    },
    /// End a session and none of its tasks; the next task that names it begins a new one
    End {
        /// The session
        session: SessionId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn help(path: &[&str]) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        let found = path
            .iter()
            .fold(&mut command, |at, name| at.find_subcommand_mut(name).unwrap());
        found.render_long_help().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_texts() {
        insta::assert_snapshot!("help", help(&[]));
        insta::assert_snapshot!("help_run", help(&["run"]));
        insta::assert_snapshot!("help_embed", help(&["embed"]));
        insta::assert_snapshot!("help_rerank", help(&["rerank"]));
        insta::assert_snapshot!("help_task", help(&["task"]));
        insta::assert_snapshot!("help_task_stream", help(&["task", "stream"]));
        insta::assert_snapshot!("help_task_explain", help(&["task", "explain"]));
        insta::assert_snapshot!("help_task_list", help(&["task", "list"]));
        insta::assert_snapshot!("help_session", help(&["session"]));
        insta::assert_snapshot!("help_artifact", help(&["artifact"]));
        insta::assert_snapshot!("help_artifact_put", help(&["artifact", "put"]));
        insta::assert_snapshot!("help_artifact_list", help(&["artifact", "list"]));
        insta::assert_snapshot!("help_pool_health", help(&["pool", "health"]));
        insta::assert_snapshot!("help_pool", help(&["pool"]));
        insta::assert_snapshot!("help_pool_drain", help(&["pool", "drain"]));
        insta::assert_snapshot!("help_pool_load", help(&["pool", "load"]));
        insta::assert_snapshot!("help_pool_reload", help(&["pool", "reload"]));
        insta::assert_snapshot!("help_pool_logs", help(&["pool", "logs"]));
        insta::assert_snapshot!("help_node_join", help(&["node", "join"]));
        insta::assert_snapshot!("help_models", help(&["models"]));
        insta::assert_snapshot!("help_models_pull", help(&["models", "pull"]));
        insta::assert_snapshot!("help_models_verify", help(&["models", "verify"]));
        insta::assert_snapshot!("help_plan", help(&["plan"]));
        insta::assert_snapshot!("help_doctor", help(&["doctor"]));
    }

    #[test]
    fn the_token_is_not_in_what_is_printed_of_the_arguments() {
        let cli = Cli::try_parse_from(["llama-orch", "--auth-token", "hunter2", "pools"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let cli = Cli::try_parse_from(["llama-orch", "pools", "--json", "--addr", "box:1", "-q"]).unwrap();
        assert!(cli.global.json && cli.global.quiet);
        assert_eq!(cli.global.addr.as_deref(), Some("box:1"));
    }
}
