//! The engine as its shim holds it: a child, or a container. Both are started, drained, asked to end, killed and waited for
//! in the same words.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use super::EXEC;
use super::contained::ContainedEngine;
use super::orders::{Orders, Run};
use super::remains::{MARK, Place};
use super::run::PROGRAM;
use crate::engine::container::NotStarted;
use crate::procfs::{self, ProcessIdentity};

/// How an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// As wait(2) tells it.
    pub(super) wait_status: i32,
    /// Whether whoever ran it says that memory ended it.
    pub(super) oom_killed: bool,
}

/// What an engine writes; absent where it cannot be read.
pub(super) type Streams = (Option<ChildStdout>, Option<ChildStderr>);

/// A started engine.
pub(super) enum Engine {
    /// A process of this machine.
    Child(ChildEngine),
    /// A container.
    Contained(Box<ContainedEngine>),
}

/// Must be started by the shim's only thread: the engine's death signal follows the thread.
pub(super) struct ChildEngine {
    child: Child,
    /// Its number, which is its group's too until it has been waited for.
    group: u32,
}

impl Engine {
    /// Starts what is ordered, and writes into its record where it is.
    pub(super) async fn start(orders: &mut Orders) -> Result<Self, NotStarted> {
        let engine = match &orders.run {
            Run::Program(_) => return Ok(Self::Child(ChildEngine::start(orders)?)),
            Run::Container(run, client) => {
                let mark = (MARK.to_owned(), orders.record.start.mark.to_string());
                let env: Vec<_> = orders.env.iter().cloned().chain([mark]).collect();
                ContainedEngine::start(run, client, &orders.args, &env, &mut orders.record).await?
            }
            Run::Held(client) => ContainedEngine::found(client, &orders.record).await?,
        };
        Ok(Self::Contained(Box::new(engine)))
    }

    pub(super) async fn streams(&mut self) -> Streams {
        match self {
            Self::Child(ChildEngine { child, .. }) => (child.stdout.take(), child.stderr.take()),
            Self::Contained(engine) => engine.streams().await,
        }
    }

    /// Waits for its end. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<Outcome> {
        match self {
            Self::Child(ChildEngine { child, .. }) => Ok(Outcome {
                wait_status: child.wait().await?.into_raw(),
                oom_killed: false,
            }),
            Self::Contained(engine) => engine.ended().await,
        }
    }

    /// Asks it to end; `None` when it still runs after the grace.
    pub(super) async fn stop(&mut self, grace: Duration) -> io::Result<Option<Outcome>> {
        match self {
            Self::Child(child) => child.signal(Signal::TERM),
            // The runtime kills it itself when it does not end in time.
            Self::Contained(engine) => engine.stop(grace).await,
        }
        timeout(grace, self.ended()).await.ok().transpose()
    }

    pub(super) async fn kill(&mut self) {
        match self {
            Self::Child(child) => child.signal(Signal::KILL),
            Self::Contained(engine) => engine.kill().await,
        }
    }
}

impl ChildEngine {
    fn start(orders: &mut Orders) -> io::Result<Self> {
        let Run::Program(program) = &orders.run else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let group = match &orders.record.start.place {
            Place::Host(group) => group.clone().unwrap_or_default(),
            Place::Container(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut command = std::process::Command::new(PROGRAM);
        command
            .arg(EXEC)
            .arg(std::process::id().to_string())
            .arg(group)
            .arg(program)
            .args(&orders.args)
            .env_clear()
            .envs(orders.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, orders.record.start.mark.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = Command::from(command).spawn()?;
        let identity = ProcessIdentity::of(child.id().ok_or(io::ErrorKind::NotFound)?)?;
        orders.record.engine = Some(identity);
        Ok(Self {
            child,
            group: identity.pid,
        })
    }

    /// The leader has not been waited for, so the group's number is still its own.
    fn signal(&self, signal: Signal) {
        if let Some(group) = procfs::raw(self.group) {
            let _sent_or_gone = kill_process_group(group, signal);
        }
    }
}
