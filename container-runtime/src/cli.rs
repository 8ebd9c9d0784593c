//! Runs a client program: arguments as they are, never a shell; a deadline; bounded output; a group of its own, which
//! is killed as a whole when it hangs or when nobody waits for it any more.

mod child;
mod output;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use crate::error::{Action, Cause, Error, Exit, Failure};
use crate::redaction::Redaction;
use crate::search::Environment;
pub(crate) use child::Group;
use output::{Fits, Tail, excerpt, read_bounded};

/// Longest answer, bytes: a container's or image's description has tens of KiB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// How long a pipe may stay open after the program has ended. Something that it left behind holds it; what the program
/// itself wrote is there at once.
const LINGER: Duration = Duration::from_millis(500);

/// How long a killed program may take to be gone: one in an uninterruptible call is left to the kernel.
const REAP: Duration = Duration::from_secs(1);

/// A program that can be called.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    /// What messages call it.
    pub(crate) name: &'static str,
    /// Where it is.
    pub(crate) program: PathBuf,
    /// All the variables it gets.
    pub(crate) environment: Environment,
    /// What messages do not show.
    pub(crate) redaction: Redaction,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// What for.
    pub(crate) action: Action,
    /// The arguments.
    pub(crate) args: Vec<String>,
    /// What it reads.
    pub(crate) stdin: Option<SecretString>,
    /// How long it may take.
    pub(crate) deadline: Duration,
}

/// What a program that ended wrote.
#[derive(Debug)]
pub(crate) struct Finished {
    status: ExitStatus,
    /// Standard output, whole.
    pub(crate) stdout: Vec<u8>,
    /// The end of standard error, fit to be shown.
    pub(crate) stderr: String,
}

impl Cli {
    /// Calls the program and returns its standard output.
    ///
    /// # Errors
    /// It cannot be started, hangs, writes too much, or ends with anything but 0.
    pub(crate) async fn answer(&self, call: Call) -> Result<Vec<u8>, Error> {
        let action = call.action;
        let finished = self.run(call).await?;
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        Err(self.refused(action, finished.status, finished.stderr))
    }

    /// Calls the program and waits for its end, whatever that is.
    pub(crate) async fn run(&self, call: Call) -> Result<Finished, Error> {
        let Call {
            action,
            args,
            stdin,
            deadline,
        } = call;
        let mut command = self.command(&args);
        command.stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut group = Group::spawn(command).map_err(|source| self.not_started(source))?;
        let (mut stdout, mut stderr) = (Vec::new(), Tail::default());
        let finished = timeout(deadline, talk(&mut group, stdin, &mut stdout, &mut stderr)).await;
        let ended = match finished {
            Ok(ended) => ended,
            Err(_elapsed) => Err(Broken::Deadline),
        };
        match ended {
            Ok(status) => Ok(Finished {
                status,
                stdout,
                stderr: stderr.text(&self.redaction),
            }),
            Err(broken) => {
                group.kill();
                // Whether it is gone by then is the kernel's affair; its group has got the signal.
                let _gone_or_stuck = timeout(REAP, group.wait()).await;
                Err(self.broken(action, deadline, broken))
            }
        }
    }

    /// The program with its arguments and its whole environment, its outputs piped.
    pub(crate) fn command(&self, args: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .envs(self.environment.variables())
            .current_dir("/")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn not_started(&self, source: std::io::Error) -> Error {
        Error::Spawn {
            program: self.program.clone(),
            source,
        }
    }

    /// What ended well, but is no answer.
    pub(crate) fn junk(&self, action: Action, problem: impl Into<String>, stdout: &[u8]) -> Error {
        Error::Junk {
            program: self.name,
            action,
            problem: problem.into(),
            excerpt: excerpt(stdout, &self.redaction),
        }
    }

    fn broken(&self, action: Action, after: Duration, broken: Broken) -> Error {
        let program = self.name;
        match broken {
            Broken::Deadline => Error::TimedOut {
                program,
                action,
                after,
            },
            Broken::TooMuch => Error::TooMuchOutput {
                program,
                action,
                limit: MAX_ANSWER_BYTES,
            },
            Broken::Pipe(source) => self.not_started(source),
        }
    }

    /// What a program that did not end well said.
    pub(crate) fn refused(&self, action: Action, status: ExitStatus, stderr: String) -> Error {
        let cause = Cause::of_words(&stderr);
        if cause == Some(Cause::DaemonUnreachable) {
            return Error::Unreachable {
                program: self.name,
                stderr,
            };
        }
        let exit = match (status.code(), status.signal()) {
            (Some(code), _) => Exit::of_code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Code(status.into_raw()),
        };
        Error::Failed(Box::new(Failure {
            program: self.name,
            action,
            exit,
            cause,
            stderr,
        }))
    }
}

/// Why a call was given up.
#[derive(Debug)]
enum Broken {
    Deadline,
    TooMuch,
    Pipe(std::io::Error),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Pipe(error)
    }
}

/// Feeds, reads and waits at once, so that neither side waits for a full pipe.
async fn talk(
    group: &mut Group,
    input: Option<SecretString>,
    stdout: &mut Vec<u8>,
    stderr: &mut Tail,
) -> Result<ExitStatus, Broken> {
    let (stdin, mut out, mut err) = group.take_pipes()?;
    let answer = async {
        match read_bounded(&mut out, stdout, MAX_ANSWER_BYTES).await? {
            Fits::Yes => Ok(()),
            Fits::No => Err(Broken::TooMuch),
        }
    };
    let words = async { Ok(stderr.drain(&mut err).await?) };
    // The first that breaks ends all three.
    let streams = async { tokio::try_join!(answer, words, feed(stdin, input)).map(drop) };
    tokio::pin!(streams);
    tokio::select! {
        // All pipes are closed, or too much was written.
        done = &mut streams => {
            done?;
            Ok(group.wait().await?)
        }
        status = group.wait() => {
            let status = status?;
            match timeout(LINGER, streams).await {
                Ok(done) => done?,
                // What is still open is not the program's.
                Err(_elapsed) => {}
            }
            Ok(status)
        }
    }
}

/// A program that does not read its input to the end says why by its end.
async fn feed(stdin: Option<ChildStdin>, input: Option<SecretString>) -> Result<(), Broken> {
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        let _read_or_not = stdin.write_all(input.expose_secret().as_bytes()).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
