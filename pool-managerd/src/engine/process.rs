//! One engine process as the daemon sees it: started or taken over through its shim, watched until its end. Dropping
//! one lets it run: an engine ends when it is told to, not when its daemon does.
//!
//! The end is the shim's end, seen through a pidfd: by then the engine is reaped, its log is complete and nothing of
//! it runs any more. Where the shim itself was killed, the kernel has killed the engine, and the rest is ended here.

use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::shim::{Answer, Exit, Orders, PROGRAM, Record, SHIM, end_remains, read_exit};
use crate::procfs::ProcessIdentity;

/// How much longer than its grace a shim may take: it reaps, drains and writes three small files.
const SHIM_MARGIN: Duration = Duration::from_secs(5);

/// An engine that was started. Must live inside a runtime.
#[derive(Debug)]
pub struct EngineProcess {
    dir: PathBuf,
    record: Record,
    engine: ProcessIdentity,
    shim: ProcessIdentity,
    ended: AsyncFd<OwnedFd>,
    /// Absent for one that another run of the daemon has started.
    child: Option<Child>,
}

impl EngineProcess {
    /// Starts the engine of the replica with that folder. Blocking, for as long as two programs take to start.
    ///
    /// # Errors
    /// The operating system's, or what the shim says.
    pub fn spawn(dir: &Path, orders: &Orders) -> io::Result<Self> {
        let mut child = shim(dir)?;
        let told = tell(&mut child, orders);
        let record = match told.and_then(|()| hear(&mut child)) {
            Ok(Answer::Started(engine)) => Record {
                shim: Some(ProcessIdentity::of(child.id())?),
                engine: Some(engine),
                ..orders.record.clone()
            },
            Ok(Answer::Refused(why)) => return Err(give_up(child, io::Error::other(why))),
            Err(error) => return Err(give_up(child, error)),
        };
        let process = Self::attach(dir, record)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            child: Some(child),
            ..process
        })
    }

    /// Takes over the engine of a record; `None` when its shim has ended.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn attach(dir: &Path, record: Record) -> io::Result<Option<Self>> {
        let (Some(shim), Some(engine)) = (record.shim, record.engine) else {
            return Ok(None);
        };
        let Some(handle) = shim.open()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            dir: dir.to_owned(),
            record,
            engine,
            shim,
            ended: watched(handle)?,
            child: None,
        }))
    }

    /// What it was started with.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// The engine's process id, which is also its group's.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.engine.pid
    }

    /// Waits for the end; nothing of the engine runs afterwards. `None`: its shim was killed and could not say how
    /// the engine ended. Cancel safe.
    ///
    /// # Errors
    /// That something of it is left running.
    pub async fn wait(&mut self) -> io::Result<Option<Exit>> {
        let _readable = self.ended.readable().await?;
        if let Some(child) = &mut self.child {
            // It has ended: this does not block.
            let _reaped = child.wait()?;
        }
        let start = self.record.start.clone();
        spawn_blocking(move || end_remains(&start))
            .await
            .map_err(io::Error::other)??;
        Ok(read_exit(&self.dir, self.record.generation))
    }

    /// Has the engine ended by its shim: politely within `grace`, or at once when there is none. A shim that does not
    /// answer is killed.
    ///
    /// # Errors
    /// Those of [`EngineProcess::wait`].
    pub async fn terminate(&mut self, grace: Duration) -> io::Result<Option<Exit>> {
        let signal = if grace.is_zero() {
            Signal::INT
        } else {
            Signal::TERM
        };
        self.shim.signal(signal)?;
        if let Ok(ended) = timeout(grace + SHIM_MARGIN, self.wait()).await {
            return ended;
        }
        self.shim.signal(Signal::KILL)?;
        self.wait().await
    }
}

fn shim(dir: &Path) -> io::Result<Child> {
    Command::new(PROGRAM)
        .arg(SHIM)
        .arg(dir)
        .env_clear()
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

fn tell(child: &mut Child, orders: &Orders) -> io::Result<()> {
    // Dropped at the end of the statement, which ends the orders.
    let pipe = child.stdin.take().ok_or_else(no_pipe)?;
    serde_json::to_writer(pipe, orders).map_err(io::Error::from)
}

fn hear(child: &mut Child) -> io::Result<Answer> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or_else(no_pipe)?).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::other("its shim ended without an answer"));
    }
    serde_json::from_str(&line).map_err(io::Error::from)
}

fn no_pipe() -> io::Error {
    io::Error::other("the shim's pipe was not made")
}

/// A shim whose engine did not start is of no use.
fn give_up(mut child: Child, error: io::Error) -> io::Error {
    // Both fail only when it has ended already.
    let _killed_or_gone = child.kill();
    let _reaped = child.wait();
    error
}

/// Readable once the process has ended.
#[expect(
    deprecated,
    reason = "its successor is an unsafe fn whose condition (a descriptor that stays open and the same) an OwnedFd meets"
)]
fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}
