//! A shim's life: orders in, engine started, output drained, end told, nothing left behind.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process_group, setsid};
use rustix::thread::set_name;
use tokio::process::{Child, Command};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::EXEC;
use super::log::{LogFiles, LogWriter, drain};
use super::orders::{Answer, Exit, Orders};
use super::orphan::abandoned;
use super::remains::{MARK, end_remains};
use crate::engine::ending::oom_kills;
use crate::procfs::{self, ProcessIdentity};

/// This program, even when its file has been replaced meanwhile.
pub const PROGRAM: &str = "/proc/self/exe";

/// How long the output of an ended engine is read on. Nothing of it runs any more; only a process that hides from
/// both group and mark can still hold the pipe.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the shim of the replica with that folder. Orders come on standard input, the answer goes to standard output.
pub(super) fn main(dir: Option<OsString>) -> ExitCode {
    let done = dir
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        .and_then(|dir| run(Path::new(&dir)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            answer(&Answer::Refused(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path) -> io::Result<()> {
    // A session of its own: no terminal and no group signal of the daemon's reaches it. It has one already when a
    // person tries it from a shell.
    let _own_session_or_leader_already = setsid();
    set_name(c"engine-shim")?;
    let mut orders: Orders = serde_json::from_reader(io::stdin().lock())?;
    orders.record.shim = Some(ProcessIdentity::of(std::process::id())?);
    orders.record.write(dir)?;
    // One thread: the engine is started by the thread that lives as long as the shim.
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(supervise(dir, orders))
}

/// The daemon may be gone already; then a later one reads the record.
fn answer(answer: &Answer) {
    let told = serde_json::to_string(answer).map(|text| writeln!(io::stdout(), "{text}"));
    let _told_or_gone = told;
}

async fn supervise(dir: &Path, mut orders: Orders) -> io::Result<()> {
    // Before the engine is there: a signal must never find the shim without its handlers.
    let mut end = Ends::new(&orders)?;
    let (generation, before) = (orders.record.generation, oom_kills());
    let files = LogFiles::new(dir, generation);
    let log = RefCell::new(LogWriter::new(
        files,
        orders.log,
        std::mem::take(&mut orders.secrets),
    ));
    let mut child = start(&orders)?;
    let engine = ProcessIdentity::of(child.id().ok_or(io::ErrorKind::NotFound)?)?;
    orders.record.engine = Some(engine);
    orders.record.write(dir)?;
    answer(&Answer::Started(engine));

    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut words = pin!(async { tokio::join!(drain_some(stdout, &log), drain_some(stderr, &log)) });
    let mut life = pin!(end.wait(&mut child, engine.pid));
    let mut complete = false;
    let status = loop {
        tokio::select! {
            biased;
            status = &mut life => break status?,
            _ = &mut words, if !complete => complete = true,
        }
    };
    // The exit is told even when something of the engine cannot be ended: the daemon finds it by its mark.
    let left = end_remains(&orders.record.start);
    if !complete {
        let _complete_or_cut = timeout(LAST_WORDS, words).await;
    }
    let exit = Exit {
        generation,
        wait_status: status.into_raw(),
        oom_killed: before.and_then(|before| Some(oom_kills()? > before)),
    };
    exit.write(dir)?;
    left
}

async fn drain_some(pipe: Option<impl tokio::io::AsyncRead + Unpin>, log: &RefCell<LogWriter>) {
    if let Some(pipe) = pipe {
        drain(pipe, log).await;
    }
}

fn start(orders: &Orders) -> io::Result<Child> {
    let group = orders.record.start.cgroup.clone().unwrap_or_default();
    let mut command = std::process::Command::new(PROGRAM);
    command
        .arg(EXEC)
        .arg(std::process::id().to_string())
        .arg(group)
        .arg(&orders.program)
        .args(&orders.args)
        .env_clear()
        .envs(orders.env.iter().map(|(name, value)| (name, value)))
        .env(MARK, orders.record.start.mark.to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Command::from(command).spawn()
}

/// What ends an engine besides itself.
struct Ends {
    polite: tokio::signal::unix::Signal,
    at_once: tokio::signal::unix::Signal,
    grace: Duration,
    owner_lock: std::path::PathBuf,
    adopt_within: Duration,
}

impl Ends {
    fn new(orders: &Orders) -> io::Result<Self> {
        Ok(Self {
            polite: signal(SignalKind::terminate())?,
            at_once: signal(SignalKind::interrupt())?,
            grace: Duration::from_millis(orders.grace_ms),
            owner_lock: orders.owner_lock.clone(),
            adopt_within: Duration::from_millis(orders.adopt_within_ms),
        })
    }

    async fn wait(&mut self, child: &mut Child, group: u32) -> io::Result<ExitStatus> {
        tokio::select! {
            biased;
            status = child.wait() => return status,
            () = self.due(group) => kill(group, Signal::KILL),
        }
        child.wait().await
    }

    /// Until the engine must be killed; asks it to end before, where there is time for that.
    async fn due(&mut self, group: u32) {
        tokio::select! {
            biased;
            _ = self.at_once.recv() => return,
            _ = self.polite.recv() => {}
            () = abandoned(&self.owner_lock, self.adopt_within) => {}
        }
        kill(group, Signal::TERM);
        tokio::select! {
            biased;
            _ = self.at_once.recv() => {}
            () = tokio::time::sleep(self.grace) => {}
        }
    }
}

/// The leader has not been waited for, so the group's number is still its own.
fn kill(group: u32, signal: Signal) {
    if let Some(group) = procfs::raw(group) {
        let _sent_or_gone = kill_process_group(group, signal);
    }
}
