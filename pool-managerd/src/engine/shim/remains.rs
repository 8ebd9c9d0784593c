//! Everything that belongs to one start of an engine, and how all of it is ended: by its control group where the
//! node has version 2 of them, and by a mark in the environment that every descendant inherits. A process that
//! leaves its group and its session is found by both. In a container it is the namespace of their numbers, which none of
//! them can leave, and the container is removed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use container_runtime::{Backend, Owner};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::engine::container::Client;
use crate::procfs::{self, ProcessIdentity};

/// The variable that every process of a start carries.
pub(super) const MARK: &str = "LLAMA_ORCH_ENGINE_START";

/// A killed process is gone within microseconds, unless it waits for a device; one that was just starting another
/// needs a second blow.
const ROUNDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// How the processes of one start are told from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The mark.
    pub mark: Uuid,
    /// Where they run.
    pub place: Place,
}

/// Where the processes of a start run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On this machine, in this control group, where the node has version 2 of them and the daemon may make some.
    Host(Option<PathBuf>),
    /// In a container.
    Container(Contained),
}

/// A start's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contained {
    /// Whose client it answers to.
    pub backend: Backend,
    /// What its labels say, and its name is made of.
    pub owner: Owner,
    /// What is known once it runs.
    pub running: Option<RunningContainer>,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningContainer {
    /// Its id.
    pub id: String,
    /// Where all of its processes have their numbers.
    pub pid_namespace: Option<u64>,
    /// The runtime's sockets on its port.
    pub sockets: Vec<u64>,
}

impl Start {
    /// A start like no other, there.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            mark: Uuid::new_v4(),
            place,
        }
    }

    /// Its container, if it has one.
    #[must_use]
    pub const fn contained(&self) -> Option<&Contained> {
        match &self.place {
            Place::Host(_) => None,
            Place::Container(contained) => Some(contained),
        }
    }

    const fn cgroup(&self) -> Option<&PathBuf> {
        match &self.place {
            Place::Host(group) => group.as_ref(),
            Place::Container(_) => None,
        }
    }

    fn pid_namespace(&self) -> Option<u64> {
        self.contained()?.running.as_ref()?.pid_namespace
    }

    /// `NAME=value` of the mark.
    fn marked(&self) -> Vec<u8> {
        format!("{MARK}={}", self.mark).into_bytes()
    }

    /// Whether a process is one of it.
    #[must_use]
    pub fn owns(&self, pid: u32) -> bool {
        let namespace = self.pid_namespace();
        let inside = namespace.is_some() && procfs::pid_namespace(pid) == namespace;
        inside || procfs::environment(pid).contains(&self.marked())
    }

    /// Its processes that run now.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessIdentity> {
        let marked = self.marked();
        let carries = |pid: &u32| procfs::environment(*pid).contains(&marked);
        let pids = procfs::pids().filter(carries);
        pids.filter_map(|pid| ProcessIdentity::of(pid).ok()).collect()
    }
}

/// Kills every process of a start and takes away its control group or container.
///
/// # Errors
/// That some are left, with their process ids, or what the container runtime says.
pub async fn end_all(start: &Start, client: &Client) -> io::Result<()> {
    let processes = start.clone();
    let ended = spawn_blocking(move || end_remains(&processes)).await;
    let removed = match start.contained() {
        Some(contained) => contained.remove(client).await,
        None => Ok(()),
    };
    ended.map_err(io::Error::other)?.and(removed)
}

impl Contained {
    /// Ends and removes it. That it is gone already is no error.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove(&self, client: &Client) -> io::Result<()> {
        let runtime = client.runtime(self.backend).await.map_err(io::Error::other)?;
        runtime.remove_of(&self.owner).await.map_err(io::Error::other)
    }
}

/// Kills every process of a start and takes its control group away. Blocking, at most a second when a process
/// cannot be killed (it waits for a device).
///
/// # Errors
/// That some are left, with their process ids.
pub fn end_remains(start: &Start) -> io::Result<()> {
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        kill_group(start);
        left = start.processes();
        if left.is_empty() {
            return remove_group(start);
        }
        for process in &left {
            // It may end between the look and the blow.
            let _sent_or_gone = process.signal(Signal::KILL);
        }
        sleep(PAUSE);
    }
    let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
    Err(io::Error::other(format!(
        "processes {} of the engine do not end",
        pids.join(", ")
    )))
}

fn kill_group(start: &Start) {
    if let Some(group) = start.cgroup() {
        // Kernels before 5.14 have no such file; the mark finds the processes too.
        let _killed_or_unknown = fs::write(group.join("cgroup.kill"), "1");
    }
}

/// A group is busy for a moment after its last process was killed.
fn remove_group(start: &Start) -> io::Result<()> {
    let Some(group) = start.cgroup() else {
        return Ok(());
    };
    let mut removed = fs::remove_dir(group);
    for _ in 0..ROUNDS {
        match &removed {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            _ => return removed,
        }
        removed = fs::remove_dir(group);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_that_left_group_and_session_is_found_by_its_mark() {
        let start = Start::new(Place::Host(None));
        let script = "setsid sh -c 'setsid sleep 600 & sleep 600' & exec sleep 600";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .env(MARK, start.mark.to_string())
            .spawn()
            .unwrap();
        while start.processes().len() < 4 {
            std::thread::yield_now();
        }
        assert!(Start::new(Place::Host(None)).processes().is_empty());
        end_remains(&start).unwrap();
        assert!(start.processes().is_empty());
        child.wait().unwrap();
    }
}
