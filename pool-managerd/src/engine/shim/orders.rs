//! What daemon and shim tell each other: orders and answer over pipes, record and exit in the replica's folder.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::log::LogLimits;
use super::remains::Start;
use crate::engine::container::{Client, ContainerRun, NotStarted};
use crate::facts::Inputs;
use crate::procfs::ProcessIdentity;

/// The form of [`Record`]; a record of another form is not taken over.
pub const FORMAT: u32 = 2;

const RECORD: &str = "start.json";
const EXIT: &str = "exit.json";

/// One start, as ordered. It holds the engine's environment and goes through a pipe only.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// What is run.
    pub run: Run,
    /// The engine's arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Texts that must not appear in its log.
    pub secrets: Vec<String>,
    /// How much of its output is kept.
    pub log: LogLimits,
    /// Between the polite and the forced end, ms.
    pub grace_ms: u64,
    /// The file that a living daemon holds a lock on.
    pub owner_lock: PathBuf,
    /// How long the engine may be without a daemon, ms.
    pub adopt_within_ms: u64,
    /// What a later daemon must know.
    pub record: Record,
}

/// What is run.
#[derive(Debug, Serialize, Deserialize)]
pub enum Run {
    /// A program of this machine, as it is, without a shell.
    Program(PathBuf),
    /// A container, by this client.
    Container(ContainerRun, Client),
    /// The container of the record, which runs already and whose shim is gone.
    Held(Client),
}

impl Run {
    /// How the container runtime is called, where there is one.
    #[must_use]
    pub const fn client(&self) -> Option<&Client> {
        match self {
            Self::Program(_) => None,
            Self::Container(_, client) | Self::Held(client) => Some(client),
        }
    }
}

/// What is kept of a start, so that a later daemon can take it over or end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// The run of the kernel that the processes belong to.
    pub boot_id: String,
    /// Counts the starts of the replica.
    pub generation: u64,
    /// How everything of it is found.
    pub start: Start,
    /// Of the command it was started with; another one is another engine.
    pub fingerprint: String,
    /// Its loopback port.
    pub port: u16,
    /// The files it was started with.
    pub inputs: Inputs,
    /// What of its model has to be on the GPUs at least, bytes; 0 where that is not known.
    pub weights: u64,
    /// When, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// The shim; set by itself before the engine is started.
    pub shim: Option<ProcessIdentity>,
    /// The engine, leader of its group or first process of its container; set by the shim once it is started. A container's
    /// may have ended before it was seen.
    pub engine: Option<ProcessIdentity>,
}

/// The shim's one line to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The engine is started; its record as it is now.
    Started(Box<Record>),
    /// It is not.
    Refused(NotStarted),
}

/// How an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Of which start.
    pub generation: u64,
    /// As wait(2) tells it.
    pub wait_status: i32,
    /// Whether the kernel killed any process for memory meanwhile, where it tells.
    pub oom_killed: Option<bool>,
    /// Whether nothing of it is left.
    pub removed: bool,
}

impl Exit {
    /// In the standard library's terms.
    #[must_use]
    pub fn status(self) -> ExitStatus {
        ExitStatus::from_raw(self.wait_status)
    }
}

impl Record {
    /// Whether its container runs on without a shim.
    #[must_use]
    pub fn lost_its_shim(&self) -> bool {
        let runs = |process: Option<ProcessIdentity>| process.is_some_and(ProcessIdentity::is_running);
        self.start.contained().is_some() && runs(self.engine) && !runs(self.shim)
    }

    /// Makes it the record of its replica: whole or not at all.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        replace(dir, RECORD, self)
    }
}

impl Exit {
    /// Makes it the exit of its replica: whole or not at all.
    ///
    /// # Errors
    /// The operating system's.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        replace(dir, EXIT, self)
    }
}

/// The latest start of the replica with that folder; none when there is none or it cannot be understood.
#[must_use]
pub fn read_record(dir: &Path) -> Option<Record> {
    read::<Record>(&dir.join(RECORD)).filter(|record| record.format == FORMAT)
}

/// How that start ended; none while it runs, or when its shim could not say.
#[must_use]
pub fn read_exit(dir: &Path, generation: u64) -> Option<Exit> {
    read::<Exit>(&dir.join(EXIT)).filter(|exit| exit.generation == generation)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn replace(dir: &Path, name: &str, content: &impl Serialize) -> io::Result<()> {
    // Made with mode 0600.
    let mut file = NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut file, content)?;
    file.flush()?;
    file.persist(dir.join(name))?;
    Ok(())
}
