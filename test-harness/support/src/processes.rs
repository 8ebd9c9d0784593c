//! Processes by the table in `/proc`: who descends from whom, who shares a session, whose engines they are, and ending
//! all of them. A process is named by its number and its start time, so that a number used again is not
//! hit. Linux only.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A killed process is gone within microseconds; one that just started another needs a second blow.
const ROUNDS: u32 = 200;
/// A second; by then a shim that answers has ended its engine.
const POLITE_ROUNDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// A process, told apart from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId {
    pid: i32,
    /// Clock ticks since boot.
    started: u64,
}

struct Stat {
    parent: i32,
    session: i32,
    started: u64,
    /// It only waits for its parent.
    ended: bool,
}

/// All descendants of a process, at any depth.
pub(crate) fn descendants(pid: i32) -> Vec<ProcessId> {
    let table = table();
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for (child, row) in table.iter().filter(|(_, row)| row.parent == parent) {
            found.push(ProcessId {
                pid: *child,
                started: row.started,
            });
            parents.push(*child);
        }
    }
    found
}

impl ProcessId {
    /// The process of this number, running or ended and not yet waited for.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self {
            pid,
            started: stat.started,
        })
    }
}

/// Kills the processes of the session that `leader` began and these others, until none of them is
/// left. A process keeps its session when its parent dies and when it gets a group of its own, so
/// orphans are found too.
pub(crate) fn end_session(leader: ProcessId, others: &[ProcessId]) {
    for _ in 0..ROUNDS {
        let others = others.iter().copied().filter(is_running);
        let left: Vec<ProcessId> = members(leader).into_iter().chain(others).collect();
        if left.is_empty() {
            return;
        }
        left.iter().for_each(kill);
        std::thread::sleep(PAUSE);
    }
}

/// The engines of a pool-managerd outlive it: ends those that have their folders below this one, when dropped. To be
/// dropped after the daemon, which would start them again.
#[derive(Debug)]
pub struct EnginesBelow(pub PathBuf);

impl Drop for EnginesBelow {
    fn drop(&mut self) {
        for round in 0..ROUNDS {
            let shims = shims_below(&self.0);
            if shims.is_empty() {
                return;
            }
            // A shim ends its engine; the kernel does when the shim is killed.
            let signal = if round < POLITE_ROUNDS {
                Signal::INT
            } else {
                Signal::KILL
            };
            shims.iter().for_each(|shim| send(shim, signal));
            std::thread::sleep(PAUSE);
        }
    }
}

/// The processes between a pool-managerd and its engines: `pool-managerd engine-shim FOLDER`.
fn shims_below(folder: &Path) -> Vec<ProcessId> {
    let is_one = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0).skip(1);
        arguments.next() == Some(b"engine-shim")
            && arguments
                .next()
                .is_some_and(|of| Path::new(OsStr::from_bytes(of)).starts_with(folder))
    };
    table()
        .into_keys()
        .filter(is_one)
        .filter_map(ProcessId::of)
        .collect()
}

/// None when the leader's number is another process's by now: then the session is another one too.
fn members(leader: ProcessId) -> Vec<ProcessId> {
    if ProcessId::of(leader.pid).is_some_and(|now| now != leader) {
        return Vec::new();
    }
    let members = table().into_iter().filter(|(_, row)| row.session == leader.pid);
    members
        .map(|(pid, row)| ProcessId {
            pid,
            started: row.started,
        })
        .collect()
}

fn kill(process: &ProcessId) {
    send(process, Signal::KILL);
}

fn send(process: &ProcessId, signal: Signal) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        // It may end between the look and the blow; then the aim is reached.
        let _ = kill_process(pid, signal);
    }
}

fn is_running(process: &ProcessId) -> bool {
    stat(process.pid).is_some_and(|stat| stat.started == process.started && !stat.ended)
}

/// All processes that run.
fn table() -> HashMap<i32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let stats = pids.filter_map(|pid: i32| Some((pid, stat(pid)?)));
    stats.filter(|(_, stat)| !stat.ended).collect()
}

/// Fields of `/proc/PID/stat` after the name, which is in parentheses and may contain anything:
/// state, parent, group, session … start time is the 20th of them.
fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat {
        parent,
        session,
        started,
        ended,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_grandchild_is_found_and_ended() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let family = std::iter::repeat_with(|| descendants(pid))
            .find(|family| !family.is_empty())
            .unwrap();
        assert_eq!(family.len(), 1);
        assert!(is_running(&family[0]));
        let reused = ProcessId {
            started: family[0].started + 1,
            ..family[0]
        };
        assert!(!is_running(&reused));
        // It leads no session, so nothing but the family is hit.
        end_session(family[0], &family);
        child.wait().unwrap();
        assert!(!is_running(&family[0]));
    }

    #[test]
    fn an_orphan_in_another_group_is_found_by_its_session() {
        let script = "set -m; sleep 61 >/dev/null 2>&1 & echo $!";
        let output = Command::new("setsid")
            .args(["sh", "-c", script])
            .output()
            .unwrap();
        let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let orphan = ProcessId::of(pid).unwrap();
        assert!(is_running(&orphan));
        // Its leader has ended, so its number stands for nobody.
        let leader = ProcessId {
            pid: stat(pid).unwrap().session,
            started: 0,
        };
        assert_eq!(ProcessId::of(leader.pid), None);
        end_session(leader, &[]);
        assert!(!is_running(&orphan));
    }
}
