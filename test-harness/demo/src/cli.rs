//! Runs `llama-orch` as a person would, and reads its JSON.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// The command and the orchestrator it talks to.
#[derive(Clone, Debug)]
pub(crate) struct Cli {
    program: PathBuf,
    addr: String,
}

/// One line of `llama-orch --json task stream`.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    /// Event name.
    pub(crate) event: String,
    /// Its data.
    pub(crate) data: Value,
}

/// A running `llama-orch --json task stream`.
pub(crate) struct Stream {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Cli {
    pub(crate) fn new(program: PathBuf, addr: String) -> Self {
        Self { program, addr }
    }

    /// Runs a command to its end and gives what it wrote to stdout.
    pub(crate) async fn text(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(arguments)
            .output()
            .await
            .context("llama-orch cannot be run")?;
        if !output.status.success() {
            bail!(
                "llama-orch {arguments:?} failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command to its end and reads its JSON document.
    pub(crate) async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.text(&[&["--json"], arguments].concat()).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("llama-orch {arguments:?} wrote no JSON document"))
    }

    /// Follows a task.
    pub(crate) fn stream(&self, task: &str) -> anyhow::Result<Stream> {
        let mut child = self
            .command(&["--json", "task", "stream", task])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("the stream has no output")?;
        Ok(Stream {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--addr", &self.addr])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

impl Stream {
    /// The next event; `None` once the command has ended well.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        if let Some(line) = self.lines.next_line().await? {
            return Ok(Some(
                serde_json::from_str(&line).with_context(|| format!("not an event: {line}"))?,
            ));
        }
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("llama-orch task stream ended with {status}");
        }
        Ok(None)
    }
}
