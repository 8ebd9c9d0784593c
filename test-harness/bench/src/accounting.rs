//! What a process has used, in the kernel's own books: CPU time and resident memory. Reads `/proc`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Length of a clock tick in `/proc/PID/stat`, ns: USER_HZ is 100 on every architecture with NVIDIA drivers.
const TICK_NS: u64 = 10_000_000;

/// CPU time of a process since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Of the threads that live now, to the nanosecond.
    threads_ns: u64,
    /// Of all threads ever, in clock ticks.
    ticks: u64,
    /// For how long threads that live now could have run but had no core, ns.
    waited_ns: u64,
}

impl CpuTime {
    /// The CPU time of process `pid` until now.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = read(pid, "stat")?;
        let (threads_ns, waited_ns) = threads_ns(pid)?;
        Ok(Self {
            threads_ns,
            waited_ns,
            ticks: ticks(&stat).with_context(|| format!("the CPU time in {stat:?}"))?,
        })
    }

    /// CPU time from `before` to here, ns. Exact, unless a thread ended in between and took its books along: then the
    /// ticks know more.
    pub(crate) fn since(self, before: Self) -> u64 {
        let exact = self.threads_ns.saturating_sub(before.threads_ns);
        let coarse = self.ticks.saturating_sub(before.ticks) * TICK_NS;
        if coarse > exact + 2 * TICK_NS {
            coarse
        } else {
            exact
        }
    }

    /// Time from `before` to here in which it waited for a core that somebody else had, ns.
    pub(crate) fn waited_since(self, before: Self) -> u64 {
        self.waited_ns.saturating_sub(before.waited_ns)
    }
}

/// Resident memory of process `pid`, bytes. Exact: the kernel walks the page tables for it.
///
/// # Errors
/// There is no such process.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let rollup = read(pid, "smaps_rollup")?;
    let kib = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("no Rss in smaps_rollup")?.parse().context("Rss")?;
    Ok(kib << 10)
}

/// Running and waiting time of the threads that live now, ns: the first two fields of their `schedstat`.
fn threads_ns(pid: u32) -> Result<(u64, u64)> {
    let folder = path(pid, "task");
    let threads = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    // A thread that ends while we look is one for the ticks.
    let books = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    let of_one = |book: String| {
        let (running, rest) = book.split_once(' ')?;
        Some((
            running.parse::<u64>().ok()?,
            rest.split(' ').next()?.parse::<u64>().ok()?,
        ))
    };
    Ok(books
        .filter_map(of_one)
        .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)))
}

/// User and system time: fields 14 and 15, counted from the name's closing parenthesis, which is field 2.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = path(pid, file);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;
    use crate::clock::now_ns;

    #[test]
    fn work_is_seen_and_not_more_than_the_clock_allows() {
        let pid = std::process::id();
        let (before, started) = (CpuTime::of(pid).unwrap(), now_ns());
        let mut sum = 0_u64;
        while now_ns() < started + 50_000_000 {
            sum = black_box(sum.wrapping_add(1));
        }
        assert!(CpuTime::of(pid).unwrap().since(before) > 0);
    }

    #[test]
    fn ticks_stand_in_for_threads_that_ended() {
        let before = CpuTime {
            threads_ns: 900_000_000,
            ticks: 90,
            waited_ns: 0,
        };
        let exact = CpuTime {
            threads_ns: 1_000_000_000,
            ticks: 101,
            waited_ns: 7,
        };
        assert_eq!(
            (exact.since(before), exact.waited_since(before)),
            (100_000_000, 7)
        );
        let after_an_end = CpuTime {
            threads_ns: 500_000_000,
            ticks: 140,
            waited_ns: 7,
        };
        assert_eq!(after_an_end.since(before), 500_000_000);
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }
}
