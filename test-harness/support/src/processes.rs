//! Processes by the table in `/proc`: who descends from whom, and ending all of them. A process is
//! named by its number and its start time, so that a number used again is not hit. Linux only.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process, told apart from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId {
    pid: i32,
    /// Clock ticks since boot.
    started: u64,
}

struct Row {
    parent: i32,
    started: u64,
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

/// Kills those of the processes that still run.
pub(crate) fn kill_all(processes: &[ProcessId]) {
    for process in processes.iter().filter(|process| is_running(process)) {
        if let Some(pid) = Pid::from_raw(process.pid) {
            // It may end between the look and the blow; then the aim is reached.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn is_running(process: &ProcessId) -> bool {
    row(process.pid).is_some_and(|row| row.started == process.started)
}

fn table() -> HashMap<i32, Row> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, row(pid)?))).collect()
}

/// Fields of `/proc/PID/stat` after the name, which is in parentheses and may contain anything:
/// state, parent, … start time is the 20th of them.
fn row(pid: i32) -> Option<Row> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Row { parent, started })
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
        kill_all(&family);
        child.wait().unwrap();
        assert!(!is_running(&family[0]));
    }
}
