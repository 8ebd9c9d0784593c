//! `pool …`: one pool.

use api_types::operation::{LoadRequest, MAX_OPERATION_DEADLINE_MS, ReloadRequest, StopRequest};
use api_types::{ModelId, ModelRef, PoolId, ReplicaId};
use clap::{Args, Subcommand};

use super::duration::milliseconds;

/// What to do with one pool.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Show whether a pool is ready and, if not, why; and its latest operation
    Health {
        /// The pool
        pool: PoolId,
    },
    /// Take no new work, let running tasks finish, stop the engines. Lasts until a load
    Drain(PoolStopArgs),
    /// Stop the engines and give their memory back; the next task that asks for the pool loads it again
    Unload(PoolStopArgs),
    /// Serve one of the pool's models. Ends a drain, and revives a pool that was given up
    Load(PoolLoadArgs),
    /// Serve another model, or go on with the present one where that fails
    ///
    /// The new model is loaded beside the old one where GPU memory allows for both; else the old one finishes its tasks and
    /// ends first, and is loaded again if the new one fails. The present model's own reference takes the file that is
    /// there now.
    Reload(PoolReloadArgs),
    /// Show what a pool's engine wrote last, without secrets
    Logs(PoolLogsArgs),
}

/// How long to wait for what.
#[derive(Debug, Args)]
pub struct Patience {
    /// How long running tasks may go on: 30s, 5m [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub deadline: Option<u64>,
    /// Print the operation's id at once, without waiting for its end
    #[arg(long)]
    pub no_wait: bool,
}

/// `pool drain`, `pool unload`.
#[derive(Debug, Args)]
pub struct PoolStopArgs {
    /// The pool
    pub pool: PoolId,
    /// How long.
    #[command(flatten)]
    pub patience: Patience,
}

/// `pool load`.
#[derive(Debug, Args)]
pub struct PoolLoadArgs {
    /// The pool
    pub pool: PoolId,
    /// Which of the pool's models, by served name or reference [default: the one that was served last]
    pub model: Option<ModelRef>,
    /// How long.
    #[command(flatten)]
    pub patience: Patience,
}

/// `pool reload`.
#[derive(Debug, Args)]
pub struct PoolReloadArgs {
    /// The pool
    pub pool: PoolId,
    /// The model to serve, as the pool's node finds it: file:/models/new.gguf
    pub model: ModelRef,
    /// The name clients shall use for it [default: as configured, else the file's name without .gguf]
    #[arg(long, value_name = "NAME")]
    pub model_id: Option<ModelId>,
    /// How long.
    #[command(flatten)]
    pub patience: Patience,
}

/// `pool logs`.
#[derive(Debug, Args)]
pub struct PoolLogsArgs {
    /// The pool
    pub pool: PoolId,
    /// Go on with every line that follows, until the engine has ended
    #[arg(long, short)]
    pub follow: bool,
    /// Most lines, the last ones
    #[arg(long, value_name = "N")]
    pub tail: Option<u32>,
    /// The replica [default: the pool's first]
    #[arg(long, value_name = "ID")]
    pub replica: Option<ReplicaId>,
    /// Which start of the replica; the last two are kept [default: the latest]
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
}

impl PoolStopArgs {
    /// The request it makes.
    #[must_use]
    pub const fn request(&self) -> StopRequest {
        StopRequest {
            deadline_ms: self.patience.deadline,
        }
    }
}

impl PoolLoadArgs {
    /// The request it makes.
    #[must_use]
    pub fn request(&self) -> LoadRequest {
        LoadRequest {
            model_ref: self.model.clone(),
            deadline_ms: self.patience.deadline,
        }
    }
}

impl PoolReloadArgs {
    /// The request it makes.
    #[must_use]
    pub fn request(&self) -> ReloadRequest {
        ReloadRequest {
            new_model_ref: self.model.clone(),
            model_id: self.model_id.clone(),
            deadline_ms: self.patience.deadline,
        }
    }
}

fn deadline(text: &str) -> Result<u64, String> {
    let ms = milliseconds(text)?;
    if ms > MAX_OPERATION_DEADLINE_MS {
        return Err(format!(
            "at most {}h are allowed",
            MAX_OPERATION_DEADLINE_MS / 3_600_000
        ));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;
    use clap::Parser;

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (line, reason) in [
            (&["drain", "a/b"][..], "PoolId"),
            (&["drain", "p", "--deadline", "25h"], "at most 24h"),
            (&["drain", "p", "--deadline", "5"], "30s"),
            (&["reload", "p"], "<MODEL>"),
            (&["reload", "p", "file:"], "file:"),
            (&["logs", "p", "--tail", "x"], "--tail"),
        ] {
            let line = ["llama-orch", "pool"].iter().chain(line);
            let error = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
