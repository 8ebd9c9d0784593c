//! A program in a process group of its own. Dropping it kills the group; what has left the group, as a container's
//! monitor does, is not of it.

use std::io;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// See the module.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    /// Until the leader is reaped: after that its number may be another's.
    id: Option<Pid>,
}

/// The three ends of a program's pipes; the first is there when it was asked for.
pub(crate) type Pipes = (Option<ChildStdin>, ChildStdout, ChildStderr);

impl Group {
    /// Starts `command`, whose outputs are piped.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, id })
    }

    pub(crate) fn take_pipes(&mut self) -> io::Result<Pipes> {
        let missing = || io::Error::other("a pipe was not made");
        Ok((
            self.child.stdin.take(),
            self.child.stdout.take().ok_or_else(missing)?,
            self.child.stderr.take().ok_or_else(missing)?,
        ))
    }

    /// Waits for the leader. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.id = None;
        Ok(status)
    }

    pub(crate) fn kill(&self) {
        if let Some(id) = self.id {
            // It may have ended a moment ago, unreaped; then the aim is reached.
            let _sent_or_gone = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
