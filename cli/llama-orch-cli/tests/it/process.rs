//! The command as a process: its arguments, a clean environment, and what it leaves behind.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::server::PATIENCE;

/// What a finished command left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command towards an address, in an environment that says nothing.
pub(crate) fn command(addr: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llama-orch"));
    command
        .env_clear()
        .args(["--addr", &addr.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the command to its end.
pub(crate) fn ended(command: &mut Command) -> anyhow::Result<Ended> {
    Ok(command.output().context("the command cannot be started")?.into())
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

pub(crate) fn interrupt(child: &Child) -> anyhow::Result<()> {
    let pid = Pid::from_child(child);
    Ok(kill_process(pid, Signal::INT)?)
}

/// Waits for the end without reading the output; kills the process when it does not end.
pub(crate) fn wait(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        // fixed sleep: the pace of asking the operating system, which has no call that waits with a limit
        thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    anyhow::bail!("the command did not end within {PATIENCE:?}")
}
