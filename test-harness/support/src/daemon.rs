//! Starts real programs for tests: a session of its own, output kept and drained, the line that
//! says where it listens, signals, and nothing left behind. Touches processes that it started.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use test_harness_support::daemon::{Command, Signal};
//! let daemon = Command::of_workspace("orchestratord")?.env("ORCHD_ADDR", "127.0.0.1:0").start().await?;
//! println!("{}", daemon.base_url());
//! daemon.signal(Signal::TERM)?;
//! # Ok(()) }
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

pub use rustix::process::Signal;

mod output;

use output::Output;

use crate::binaries::{self, BuildError};
use crate::processes::{self, ProcessId};
use crate::wait::{Look, TimedOut, wait_for};

/// Long for a daemon that only binds a socket, short for a person who waits.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Between a program's end and the last byte of its output, on a busy machine.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);
/// What a program needs of the tester's environment; nothing else is passed on.
const INHERITED: [&str; 6] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
];
/// Where an orchestrator keeps what must survive its restart.
const STATE_DIR: &str = "ORCHD_STATE_DIR";
/// How a daemon's first line on stdout begins.
const LISTENING: &str = "listening http://";

/// A program that did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It could not be started.
    #[error("cannot start {program}")]
    Spawn {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended, or said something else, or nothing.
    #[error("{program} does not say \"listening http://ADDR:PORT\": {seen}\n{logs}")]
    NotListening {
        /// Its path.
        program: String,
        /// What happened instead.
        seen: String,
        /// Its output.
        logs: String,
    },
}

/// A program to start. Its environment holds what is set here, and of the tester's only what every
/// program needs (PATH, HOME, …).
#[derive(Clone, Debug)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    start_limit: Duration,
    /// Whether it gets a state directory of its own when it is given none.
    keeps_state: bool,
}

impl Command {
    /// A program of this workspace, built when it has to be.
    ///
    /// # Errors
    /// It does not build.
    pub fn of_workspace(name: &str) -> Result<Self, BuildError> {
        let command = binaries::bin_path(name).map(Self::new)?;
        Ok(Self {
            keeps_state: name == "orchestratord",
            ..command
        })
    }

    /// Any program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: inherited(),
            start_limit: START_LIMIT,
            keeps_state: false,
        }
    }

    /// Two orchestrators never share a state directory, nor does a test use the tester's.
    fn own_state(&mut self) -> io::Result<Option<TempDir>> {
        if !self.keeps_state || self.environment.contains_key(OsStr::new(STATE_DIR)) {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        self.environment.insert(STATE_DIR.into(), folder.path().into());
        Ok(Some(folder))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// How long it may take to listen (default 30 s).
    #[must_use]
    pub fn start_limit(self, start_limit: Duration) -> Self {
        Self { start_limit, ..self }
    }

    /// Starts a daemon and waits for its first line on stdout, `listening http://ADDR:PORT`.
    ///
    /// # Errors
    /// It does not start, or its first line is another, or none comes in time.
    pub async fn start(self) -> Result<Daemon, StartError> {
        let limit = self.start_limit;
        let process = self.spawn()?;
        let line = process.first_line(limit).await;
        let address = line
            .as_deref()
            .and_then(|line| line.strip_prefix(LISTENING)?.parse().ok());
        let Some(address) = address else {
            return Err(process.not_listening(line, limit).await);
        };
        Ok(Daemon { process, address })
    }

    /// Starts a program without waiting for anything.
    ///
    /// # Errors
    /// It does not start.
    pub fn spawn(mut self) -> Result<Process, StartError> {
        let program = self.program.display().to_string();
        // A session of its own, by which its orphans can be found. The program `setsid` becomes the
        // program, with the same process id.
        let spawned = self.exists().and_then(|()| {
            let own_state = self.own_state()?;
            Ok((self.command().spawn()?, own_state))
        });
        match spawned {
            Ok((child, own_state)) => Ok(Process::watch(program, child, own_state)),
            Err(source) => Err(StartError::Spawn { program, source }),
        }
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new("setsid");
        command
            .arg("--")
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A path must lead somewhere; a bare name is looked up in PATH by `setsid`.
    fn exists(&self) -> io::Result<()> {
        let is_path = self
            .program
            .parent()
            .is_some_and(|folder| !folder.as_os_str().is_empty());
        if is_path {
            std::fs::metadata(&self.program).map(drop)
        } else {
            Ok(())
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a child's environment is made from the tester's"
)]
fn inherited() -> BTreeMap<OsString, OsString> {
    INHERITED
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect()
}

/// A daemon that listens. Dropping it kills it and all its descendants.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    address: SocketAddr,
}

impl Daemon {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL on this host: `http://ADDRESS`, with loopback for every address.
    pub fn base_url(&self) -> String {
        let port = self.address.port();
        match self.address.ip() {
            ip if !ip.is_unspecified() => format!("http://{}", self.address),
            ip if ip.is_ipv4() => format!("http://127.0.0.1:{port}"),
            _ => format!("http://[::1]:{port}"),
        }
    }
}

impl std::ops::Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// A running program. Dropping it kills it, its session and every descendant, and waits.
#[derive(Debug)]
pub struct Process {
    program: String,
    pid: Pid,
    /// Known unless `/proc` cannot be read.
    identity: Option<ProcessId>,
    child: Mutex<Child>,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    /// Descendants seen before the program was told to end: they may outlive it.
    family: Mutex<Vec<ProcessId>>,
    /// Gone with the process.
    _own_state: Option<TempDir>,
}

impl Process {
    fn watch(program: String, mut child: Child, own_state: Option<TempDir>) -> Self {
        let stdout = Output::drain(child.stdout.take());
        let stderr = Output::drain(child.stderr.take());
        let pid = Pid::from_child(&child);
        Self {
            program,
            pid,
            identity: ProcessId::of(pid.as_raw_nonzero().get()),
            child: Mutex::new(child),
            stdout,
            stderr,
            family: Mutex::default(),
            _own_state: own_state,
        }
    }

    /// Its process id, which is its session's and group's too.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal to the program itself.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.remember_family();
        Ok(kill_process(self.pid, signal)?)
    }

    /// Kills the program itself, as a crash would; what it started goes on.
    ///
    /// # Errors
    /// It has ended.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Waits for its end and for the last of its output.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn wait(&self, limit: Duration) -> Result<ExitStatus, TimedOut> {
        let what = format!("the end of {}", self.program);
        let status = wait_for(&what, limit, || async {
            match self.exit_status() {
                Some(status) => Look::Ready(status),
                None => Look::NotYet(format!("running; it said:\n{}", self.logs())),
            }
        })
        .await?;
        self.settle().await;
        Ok(status)
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// The first line of stdout, without its end; `None` when stdout closes or `limit` passes before.
    pub async fn first_line(&self, limit: Duration) -> Option<String> {
        timeout(limit, self.stdout.first_line()).await.ok()?
    }

    /// Waits until its output is complete, but not for long: a descendant may hold it open.
    async fn settle(&self) {
        let _ = timeout(OUTPUT_GRACE, async {
            tokio::join!(self.stdout.closed(), self.stderr.closed())
        })
        .await;
    }

    /// What it wrote to stdout (the last MiB).
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it wrote to stderr (the last MiB).
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until the program has written `word` and an address behind it.
    ///
    /// # Errors
    /// It has not within `limit`; the message has what it wrote.
    pub async fn address_behind(&self, word: &str, limit: Duration) -> Result<SocketAddr, TimedOut> {
        wait_for("the address it listens on", limit, || async {
            let logs = self.logs();
            let behind = logs.split(word).nth(1);
            let address = behind.and_then(|rest| rest.split(['"', ' ', '\n']).next());
            match address.and_then(|address| address.parse().ok()) {
                Some(address) => Look::Ready(address),
                None => Look::NotYet(logs),
            }
        })
        .await
    }

    /// Both, for a message.
    pub fn logs(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}", self.stdout(), self.stderr())
    }

    async fn not_listening(&self, first_line: Option<String>, limit: Duration) -> StartError {
        // A program that closed its output is about to end, if it has not yet.
        let status = self.wait(OUTPUT_GRACE).await;
        let seen = match (first_line, status) {
            (Some(line), _) => format!("its first line is {line:?}"),
            (None, Ok(status)) => format!("it ended with {status}"),
            (None, Err(_)) => format!("it said nothing for {limit:?}"),
        };
        StartError::NotListening {
            program: self.program.clone(),
            seen,
            logs: self.logs(),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_family(&self) -> Vec<ProcessId> {
        let mut family = self.family.lock().unwrap_or_else(PoisonError::into_inner);
        for process in processes::descendants(self.pid.as_raw_nonzero().get()) {
            if !family.contains(&process) {
                family.push(process);
            }
        }
        family.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.remember_family();
        // Both can only fail because the aim is reached already.
        let _ = self.child().kill();
        let _ = self.child().wait();
        if let Some(leader) = self.identity {
            processes::end_session(leader, &family);
        }
    }
}
