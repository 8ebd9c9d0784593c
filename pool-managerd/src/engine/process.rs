//! One engine process as the daemon sees it: started or taken over through its shim, watched until its end. Dropping
//! one lets it run: an engine ends when it is told to, not when its daemon does.
//!
//! The end is the shim's end, seen through a pidfd: by then the engine is reaped, its log is complete and nothing of
//! it runs any more. Where the shim itself was killed, the kernel has killed an engine without a container, and the rest
//! is ended here. Nothing here asks whether there is a container; what differs is in the shim.

use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::container::{Client, NotStarted};
use super::shim::{Answer, Exit, Orders, PROGRAM, Record, SHIM, end_all, read_exit};
use crate::procfs::{ProcessIdentity, watched};

/// How much longer than its grace a shim may take: it reaps, drains and writes three small files.
const SHIM_MARGIN: Duration = Duration::from_secs(5);

/// The same where it calls a container runtime's client: three calls that may be slow.
const CLIENT_MARGIN: Duration = Duration::from_secs(60);

/// An engine that was started. Must live inside a runtime.
#[derive(Debug)]
pub struct EngineProcess {
    dir: PathBuf,
    record: Record,
    client: Client,
    shim: ProcessIdentity,
    ended: AsyncFd<OwnedFd>,
    /// Absent for one that another run of the daemon has started.
    child: Option<Child>,
}

impl EngineProcess {
    /// Starts the engine of the replica with that folder. Blocking, for as long as two programs or a container take to
    /// start.
    ///
    /// # Errors
    /// The operating system's, or what the shim says.
    pub fn spawn(dir: &Path, client: &Client, orders: &Orders) -> Result<Self, NotStarted> {
        let mut child = shim(dir)?;
        let told = tell(&mut child, orders);
        let record = match told.and_then(|()| hear(&mut child)) {
            Ok(Answer::Started(record)) => *record,
            Ok(Answer::Refused(why)) => return Err(give_up(child, why)),
            Err(error) => return Err(give_up(child, error.into())),
        };
        let process =
            Self::attach(dir, client, record)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Self {
            child: Some(child),
            ..process
        })
    }

    /// Takes over the engine of a record; `None` when its shim has ended.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn attach(dir: &Path, client: &Client, record: Record) -> io::Result<Option<Self>> {
        let Some(shim) = record.shim else {
            return Ok(None);
        };
        let Some(handle) = shim.open()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            dir: dir.to_owned(),
            record,
            client: client.clone(),
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

    /// The engine's process id on this machine, which is also its group's; `None` of one that had ended before it was
    /// seen.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.record.engine.map(|engine| engine.pid)
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
        let exit = read_exit(&self.dir, self.record.generation);
        if !exit.is_some_and(|exit| exit.removed) {
            end_all(&self.record.start, &self.client).await?;
        }
        Ok(exit)
    }

    /// How much longer than its grace its shim may take.
    const fn margin(&self) -> Duration {
        match self.record.start.contained() {
            Some(_) => CLIENT_MARGIN,
            None => SHIM_MARGIN,
        }
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
        if let Ok(ended) = timeout(grace + self.margin(), self.wait()).await {
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
fn give_up(mut child: Child, why: NotStarted) -> NotStarted {
    // Both fail only when it has ended already.
    let _killed_or_gone = child.kill();
    let _reaped = child.wait();
    why
}
