//! What a container writes, as bytes, while it is written. Owns the client that reads them. Making lines of them, and
//! taking out what nobody may see, is the reader's part: whoever reads an engine's output does so for engines without
//! containers too.

use std::io;
use std::process::Stdio;

use tokio::process::{ChildStderr, ChildStdout};

use crate::cli::{Cli, Group};
use crate::error::{Action, Error};

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the first byte that the runtime has kept.
    Start,
    /// With what is written from now on.
    Now,
}

/// The two streams of a container until its program ends. Whoever does not read holds up nobody: the runtime keeps what
/// comes, within its bound. Dropping it ends the client.
#[derive(Debug)]
pub struct Logs {
    client: Group,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    cli: Cli,
}

impl Logs {
    pub(crate) fn start(cli: &Cli, args: &[String]) -> Result<Self, Error> {
        let mut command = cli.command(args);
        command.stdin(Stdio::null());
        let mut client = Group::spawn(command).map_err(|error| cli.not_started(error))?;
        let (_, stdout, stderr) = client.take_pipes().map_err(|error| cli.not_started(error))?;
        Ok(Self {
            client,
            stdout: Some(stdout),
            stderr: Some(stderr),
            cli: cli.clone(),
        })
    }

    /// Standard output and standard error; the client's own words come in the latter. They can be taken once.
    ///
    /// # Errors
    /// They have been taken.
    pub fn take_streams(&mut self) -> io::Result<(ChildStdout, ChildStderr)> {
        let taken = || io::Error::other("the streams of the log have been taken");
        let stdout = self.stdout.take().ok_or_else(taken)?;
        Ok((stdout, self.stderr.take().ok_or_else(taken)?))
    }

    /// How the client ended: well, when the container's program has ended and all of its output was read.
    ///
    /// # Errors
    /// It failed; what it said was the end of standard error.
    pub async fn end(&mut self) -> Result<(), Error> {
        let status = self
            .client
            .wait()
            .await
            .map_err(|error| self.cli.not_started(error))?;
        if status.success() {
            return Ok(());
        }
        Err(self.cli.refused(Action::Logs, status, String::new()))
    }
}
