//! The processes below this one. Adopts orphans, reaps them as init would, and finds those that outlive their step.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, child_subreaper, getpid, kill_process, set_child_subreaper,
};

/// Processes that were told to end may need this long to do so before they count as left behind.
const ENDING_GRACE: Duration = Duration::from_secs(2);
/// Pause between two looks at the process table while the grace runs.
const ENDING_POLL: Duration = Duration::from_millis(50);
/// Compiler caches start a server of their own at the first compilation and mean to keep it.
const COMPILER_CACHES: [&str; 1] = ["sccache"];

/// From here on, processes below this one whose parent ends become our children, so that none can escape.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("becoming the reaper of orphaned processes")
}

/// Waits for `child`. While it runs, adopted orphans that end are reaped, because nobody else can.
///
/// # Errors
/// The child was already waited for.
pub(crate) fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    if child_subreaper()?.is_none() {
        return child.wait();
    }
    loop {
        if let Some(status) = reap_one(child, WaitOptions::empty())?.of_child() {
            return Ok(status);
        }
    }
}

/// The status of `child` if it has ended; reaps ended orphans like [`wait`].
///
/// # Errors
/// The child was already waited for.
pub(crate) fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    if child_subreaper()?.is_none() {
        return child.try_wait();
    }
    loop {
        match reap_one(child, WaitOptions::NOHANG)? {
            Reaped::Child(status) => return Ok(Some(status)),
            Reaped::Orphan => {}
            Reaped::Nobody => return Ok(None),
        }
    }
}

enum Reaped {
    Child(ExitStatus),
    Orphan,
    Nobody,
}

impl Reaped {
    fn of_child(self) -> Option<ExitStatus> {
        match self {
            Self::Child(status) => Some(status),
            Self::Orphan | Self::Nobody => None,
        }
    }
}

fn reap_one(child: &Child, options: WaitOptions) -> io::Result<Reaped> {
    let ended: Option<(Pid, WaitStatus)> = rustix::io::retry_on_intr(|| rustix::process::wait(options))?;
    Ok(match ended {
        Some((pid, status)) if pid.as_raw_pid().cast_unsigned() == child.id() => {
            Reaped::Child(ExitStatus::from_raw(status.as_raw()))
        }
        Some(_) => Reaped::Orphan,
        None => Reaped::Nobody,
    })
}

/// Remembers which processes exist below this one, to tell later which ones are new.
#[derive(Debug)]
pub(crate) struct Watch {
    known: BTreeSet<i32>,
}

impl Watch {
    /// Starts watching.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            known: alive_below_us()?.into_iter().map(|process| process.pid).collect(),
        })
    }

    /// Checks that every process started since [`Watch::start`] has ended, and ends those that have not.
    ///
    /// # Errors
    /// Names each process that was left behind.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut waited = Duration::ZERO;
        loop {
            let left = self.left_behind()?;
            if left.is_empty() {
                return Ok(());
            }
            if waited >= ENDING_GRACE {
                return self.end_and_report(&left);
            }
            std::thread::sleep(ENDING_POLL);
            waited += ENDING_POLL;
        }
    }

    fn left_behind(&self) -> Result<Vec<Process>> {
        let alive = alive_below_us()?.into_iter();
        Ok(alive
            .filter(|process| !self.known.contains(&process.pid) && !process.is_compiler_cache())
            .collect())
    }

    fn end_and_report(&self, left: &[Process]) -> Result<()> {
        let mut waited = Duration::ZERO;
        let mut still_there = left.to_vec();
        // What is left may start another process before it is its turn, so look again.
        while !still_there.is_empty() && waited < ENDING_GRACE {
            still_there.iter().for_each(Process::kill);
            std::thread::sleep(ENDING_POLL);
            waited += ENDING_POLL;
            still_there = self.left_behind()?;
        }
        reap_ended_orphans();
        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
        bail!(
            "left {} process(es) behind, ended now:\n  {}",
            left.len(),
            names.join("\n  ")
        )
    }
}

/// To be called only while no child is waited for: it takes the status of any.
fn reap_ended_orphans() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    ended: bool,
    command: String,
}

impl Process {
    fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended since the look at the process table: then there is nothing to end.
            let _ended_already = kill_process(pid, Signal::KILL);
        }
    }

    fn is_compiler_cache(&self) -> bool {
        let program = self.command.split(' ').next().unwrap_or_default();
        Path::new(program)
            .file_name()
            .is_some_and(|name| COMPILER_CACHES.iter().any(|cache| name == *cache))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.command)
    }
}

fn alive_below_us() -> Result<Vec<Process>> {
    let table = process_table(Path::new("/proc"))?;
    let below = descendants(getpid().as_raw_pid(), &table);
    Ok(below.into_iter().filter(|process| !process.ended).collect())
}

/// All processes below `root`, nearest first.
fn descendants(root: i32, table: &[Process]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while !parents.is_empty() {
        let children: Vec<Process> = table
            .iter()
            .filter(|process| parents.contains(&process.parent))
            .cloned()
            .collect();
        parents = children.iter().map(|process| process.pid).collect();
        found.extend(children);
    }
    found
}

fn process_table(proc_dir: &Path) -> Result<Vec<Process>> {
    let entries = std::fs::read_dir(proc_dir).context("reading the process table in /proc")?;
    // A process may end between the listing and the look at it: then it has no entry any more.
    Ok(entries
        .filter_map(|entry| read_process(&entry.ok()?.path()))
        .collect())
}

fn read_process(dir: &Path) -> Option<Process> {
    let pid = dir.file_name()?.to_str()?.parse().ok()?;
    let (ended, parent) = parse_stat(&std::fs::read_to_string(dir.join("stat")).ok()?)?;
    let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command)
        .trim_end_matches('\0')
        .replace('\0', " ");
    Some(Process {
        pid,
        parent,
        ended,
        command,
    })
}

/// State and parent of a `/proc/PID/stat` line (proc(5)); the name in parentheses may itself hold parentheses.
fn parse_stat(stat: &str) -> Option<(bool, i32)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    Some((ended, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, command: &str) -> Process {
        Process {
            pid,
            parent,
            ended: false,
            command: command.to_owned(),
        }
    }

    #[test]
    fn stat_is_read_behind_the_last_parenthesis() {
        assert_eq!(parse_stat("12 (a) b) S 7 12 12 0"), Some((false, 7)));
        assert_eq!(parse_stat("12 (sh) Z 1 12 12 0"), Some((true, 1)));
        assert_eq!(parse_stat("12 (sh)"), None);
    }

    #[test]
    fn descendants_are_found_through_every_generation() {
        let table = [
            process(5, 4, "c"),
            process(2, 1, "a"),
            process(4, 2, "b"),
            process(9, 8, "other"),
        ];
        let pids: Vec<i32> = descendants(1, &table).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [2, 4, 5]);
    }

    #[test]
    fn only_the_compiler_cache_may_stay() {
        assert!(process(1, 0, "/usr/bin/sccache --server").is_compiler_cache());
        assert!(!process(1, 0, "target/debug/orchestratord sccache").is_compiler_cache());
    }

    #[test]
    fn this_process_is_in_the_table() {
        let us = getpid().as_raw_pid();
        assert!(
            process_table(Path::new("/proc"))
                .unwrap()
                .iter()
                .any(|process| process.pid == us)
        );
    }
}
