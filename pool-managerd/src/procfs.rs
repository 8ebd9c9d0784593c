//! Processes as the kernel shows them below `/proc`: who a process is for good, which group it is in, what it was
//! started with. Reads only; a process may be gone at any moment, which is no error.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, told apart from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: u32,
    /// Its start, clock ticks since boot.
    pub started_ticks: u64,
}

/// What `/proc/PID/stat` tells of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// It has ended and only waits for its parent.
    pub ended: bool,
    /// Its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its start, clock ticks since boot.
    pub started_ticks: u64,
}

impl Stat {
    /// `None` when there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The fields after the command, which is in parentheses and may itself hold spaces and parentheses: state,
    /// parent, group; the start is the 20th of them (proc(5)).
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        Some(Self {
            ended: matches!(fields.next()?, "Z" | "X"),
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            started_ticks: fields.nth(16)?.parse().ok()?,
        })
    }
}

impl ProcessIdentity {
    /// Who has that number now.
    ///
    /// # Errors
    /// `NotFound` when nobody has.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::of(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            pid,
            started_ticks: stat.started_ticks,
        })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(self) -> bool {
        self.stat().is_some_and(|stat| !stat.ended)
    }

    /// Whether its number is still its own: it runs, or has ended and waits for its parent.
    fn is_there(self) -> bool {
        self.stat().is_some()
    }

    fn stat(self) -> Option<Stat> {
        Stat::of(self.pid).filter(|now| now.started_ticks == self.started_ticks)
    }

    /// A handle that is readable once the process has ended, and that no later process can be mistaken for; `None`
    /// when it is gone. One that has ended and waits for its parent can be opened.
    ///
    /// # Errors
    /// The operating system's, e.g. too many open files.
    pub fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            // The number is this process's after the handle was made: the handle is its own.
            Ok(handle) => Ok(self.is_there().then_some(handle)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a signal; to nobody when the process has ended.
    ///
    /// # Errors
    /// The operating system's, e.g. that it belongs to another user.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        match self.open()? {
            Some(handle) => match pidfd_send_signal(handle, signal) {
                Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// Readable once the process has ended. Must be called inside a runtime.
///
/// # Errors
/// The operating system's.
#[expect(
    deprecated,
    reason = "its successor is an unsafe fn whose condition (a descriptor that stays open and the same) an OwnedFd meets"
)]
pub fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// A process number as the system's calls take it.
#[must_use]
pub fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// The numbers of all processes, now.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The arguments of a process; empty for one that is gone, a zombie or a kernel thread.
#[must_use]
pub fn arguments(pid: u32) -> Vec<Vec<u8>> {
    strings(&Path::new("/proc").join(pid.to_string()).join("cmdline"))
}

/// The environment that a process was started with, as `NAME=value`; empty where it may not be read.
#[must_use]
pub fn environment(pid: u32) -> Vec<Vec<u8>> {
    strings(&Path::new("/proc").join(pid.to_string()).join("environ"))
}

/// The namespace that a process has its number in, by the kernel's number of it; `None` where it may not be read. All
/// processes of a container have the same, which no other has while it lives.
#[must_use]
pub fn pid_namespace(pid: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    link.to_str()?
        .strip_prefix("pid:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn strings(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Names this run of the kernel: start times are only comparable within one.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_command_with_parentheses_and_spaces_is_skipped() {
        let line = "42 (a) (b c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            stat,
            Stat {
                ended: false,
                parent: 7,
                group: 42,
                started_ticks: 987_654
            }
        );
        assert!(Stat::parse(&line.replace(" S ", " Z ")).unwrap().ended);
        assert_eq!(Stat::parse("42 (cut"), None);
    }

    /// REQ-FAULT-ZOMBIE.
    #[test]
    fn a_process_is_itself_until_it_ends_and_nobody_later() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert!(identity.is_running() && identity.open().unwrap().is_some());
        let later = ProcessIdentity {
            started_ticks: identity.started_ticks + 1,
            ..identity
        };
        assert!(!later.is_running() && later.open().unwrap().is_none());
        later.signal(Signal::KILL).unwrap();
        assert!(identity.is_running(), "a later process was hit");
        identity.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!identity.is_running() && identity.open().unwrap().is_none());
    }

    #[test]
    fn this_process_is_listed_with_its_arguments() {
        assert!(pids().any(|pid| pid == std::process::id()));
        assert!(!arguments(std::process::id())[0].is_empty());
        assert!(!boot_id().unwrap().is_empty());
        let own = pid_namespace(std::process::id());
        assert!(own.is_some() && pid_namespace(u32::MAX).is_none());
    }
}
