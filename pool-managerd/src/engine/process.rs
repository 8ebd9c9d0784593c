//! One engine process as an operating system object: its process group, its pipes, its end. Owns the child
//! until it is reaped; nothing of the group outlives the leader.
//!
//! The end is seen through a pidfd while the leader is still a zombie, so its id cannot have been given to
//! anybody else when the rest of the group is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use secrecy::ExposeSecret;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::time::timeout;

use super::command::EngineCommand;

/// A started engine. Dropping it kills its group.
#[derive(Debug)]
pub struct EngineProcess {
    leader: Leader,
    exited: AsyncFd<OwnedFd>,
}

/// What a started engine writes.
#[derive(Debug)]
pub struct Pipes {
    /// Standard output.
    pub stdout: ChildStdout,
    /// Standard error; llama.cpp logs here.
    pub stderr: ChildStderr,
}

impl EngineProcess {
    /// Starts the engine in a process group of its own, with no other environment than the command's. Must be
    /// called inside a runtime.
    ///
    /// # Errors
    /// The operating system's, when the program cannot be executed or the process cannot be watched.
    pub fn spawn(command: &EngineCommand) -> io::Result<(Self, Pipes)> {
        let child = Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            .envs(
                command
                    .env
                    .iter()
                    .map(|(name, value)| (name, value.expose_secret())),
            )
            .current_dir(&command.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut leader = Leader {
            group: Pid::from_child(&child),
            child,
            reaped: false,
        };
        let pipes = leader.pipes()?;
        let pidfd = pidfd_open(leader.group, PidfdFlags::NONBLOCK)?;
        let exited = watched(pidfd)?;
        Ok((Self { leader, exited }, pipes))
    }

    /// The leader's process id, which is also the group's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.leader.child.id()
    }

    /// Waits for the leader's end, kills what is left of its group and reaps it. Cancel safe.
    ///
    /// # Errors
    /// The operating system's, when the process cannot be waited for.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let _still_a_zombie = self.exited.readable().await?;
        self.leader.kill_group();
        self.leader.reap()
    }

    /// Asks the group to end, and kills it after `grace`.
    ///
    /// # Errors
    /// Those of [`EngineProcess::wait`].
    pub async fn terminate(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.leader.signal_group(Signal::TERM);
        match timeout(grace, self.wait()).await {
            Ok(ended) => ended,
            Err(_elapsed) => {
                self.leader.kill_group();
                self.wait().await
            }
        }
    }
}

/// Readable once the process has ended.
#[expect(
    deprecated,
    reason = "its successor is an unsafe fn whose condition (a descriptor that stays open and the same) an OwnedFd meets"
)]
fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

#[derive(Debug)]
struct Leader {
    child: Child,
    group: Pid,
    reaped: bool,
}

impl Leader {
    fn pipes(&mut self) -> io::Result<Pipes> {
        let taken = || io::Error::other("the engine's pipe was not made");
        Ok(Pipes {
            stdout: ChildStdout::from_std(self.child.stdout.take().ok_or_else(taken)?)?,
            stderr: ChildStderr::from_std(self.child.stderr.take().ok_or_else(taken)?)?,
        })
    }

    fn kill_group(&self) {
        self.signal_group(Signal::KILL);
    }

    fn signal_group(&self, signal: Signal) {
        if !self.reaped {
            // The group has at least the unreaped leader; the only failure left is a leader that changed its
            // user.
            let _sent_or_not_ours = kill_process_group(self.group, signal);
        }
    }

    /// The leader is a zombie: this does not block.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_group();
            // Reaps the leader where the kill is already done; else it stays a zombie until this process
            // ends.
            let _gone_or_going = self.child.try_wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    use tokio::io::AsyncReadExt;

    fn shell(script: &str) -> EngineCommand {
        EngineCommand {
            program: "/bin/sh".into(),
            dir: "/".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("ONLY".into(), "this".into())],
        }
    }

    const GRACE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_environment_is_only_what_was_given() {
        let (mut process, mut pipes) = EngineProcess::spawn(&shell("exec /usr/bin/env")).unwrap();
        let mut text = String::new();
        pipes.stdout.read_to_string(&mut text).await.unwrap();
        assert!(process.wait().await.unwrap().success());
        let names: Vec<&str> = text.lines().map(|line| line.split('=').next().unwrap()).collect();
        let shells_own = ["PWD", "SHLVL", "_", "OLDPWD"];
        assert!(names.contains(&"ONLY"), "{text}");
        assert!(
            names
                .iter()
                .all(|name| *name == "ONLY" || shells_own.contains(name)),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_end_takes_the_rest_of_the_group_along() {
        let (mut process, mut pipes) =
            EngineProcess::spawn(&shell("sleep 600 & echo started; exit 7")).unwrap();
        assert_eq!(process.wait().await.unwrap().code(), Some(7));
        let mut rest = String::new();
        // The orphan held the pipe: its end is the proof that it is gone.
        pipes.stdout.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "started\n");
    }

    #[tokio::test]
    async fn terminate_lets_a_polite_engine_finish() {
        let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done";
        let (mut process, mut pipes) = EngineProcess::spawn(&shell(script)).unwrap();
        let mut up = [0; 3];
        pipes.stdout.read_exact(&mut up).await.unwrap();
        assert_eq!(process.terminate(GRACE).await.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn terminate_kills_what_ignores_it() {
        let script = "trap '' TERM; echo up; while :; do sleep 0.01; done";
        let (mut process, mut pipes) = EngineProcess::spawn(&shell(script)).unwrap();
        let mut up = [0; 3];
        pipes.stdout.read_exact(&mut up).await.unwrap();
        let status = process.terminate(Duration::from_millis(50)).await.unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[tokio::test]
    async fn dropping_kills_the_group() {
        let (process, mut pipes) = EngineProcess::spawn(&shell("sleep 600 & echo up; sleep 600")).unwrap();
        let mut up = [0; 3];
        pipes.stdout.read_exact(&mut up).await.unwrap();
        drop(process);
        let mut rest = Vec::new();
        pipes.stdout.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let mut command = shell("");
        command.program = "/nonexistent/llama-server".into();
        let error = EngineProcess::spawn(&command).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
