//! Whether the cores were left to the run: what engine and load used of theirs, and how long a relay waited for its own.

use anyhow::Result;

use crate::accounting::CpuTime;
use crate::clock::now_ns;
use crate::relay::{Rig, Which};

/// Above this share of its core, the load is part of the latency.
const BUSY: f64 = 0.8;
/// Above this share of a run, other programs had the relay's core too often for latencies to be quoted.
const WAITED: f64 = 0.02;

/// The worst that was seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Quiet {
    /// Largest share of its core that engine and load used together.
    load_used: f64,
    /// Largest share of a run in which nginx could have worked but had no core. It has one thread, so somebody else
    /// had it.
    nginx_waited: f64,
    /// The same of the orchestrator, whose threads also wait for each other.
    ours_waited: f64,
}

/// The books before a run.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    rig: &'a Rig,
    which: Which,
    started_ns: u64,
    before: Books,
}

#[derive(Debug)]
struct Books {
    engine: CpuTime,
    load: CpuTime,
    relay: CpuTime,
}

impl Books {
    fn read(rig: &Rig, which: Which) -> Result<Self> {
        Ok(Self {
            engine: CpuTime::of(rig.engine.pid())?,
            load: CpuTime::of(std::process::id())?,
            relay: CpuTime::of(rig.relay(which).pid())?,
        })
    }
}

impl<'a> Watch<'a> {
    /// Before a run of a relay.
    ///
    /// # Errors
    /// A process has ended.
    pub(super) fn start(rig: &'a Rig, which: Which) -> Result<Self> {
        Ok(Self {
            rig,
            which,
            started_ns: now_ns(),
            before: Books::read(rig, which)?,
        })
    }
}

impl Quiet {
    /// After the run.
    ///
    /// # Errors
    /// A process has ended.
    pub(super) fn look(&mut self, watch: &Watch<'_>) -> Result<()> {
        let (before, after) = (&watch.before, Books::read(watch.rig, watch.which)?);
        let wall_ns = now_ns() - watch.started_ns;
        let share = |ns: u64| ns as f64 / wall_ns.max(1) as f64;
        let load = after.engine.since(before.engine) + after.load.since(before.load);
        self.load_used = self.load_used.max(share(load));
        let longest = match watch.which {
            Which::Ours => &mut self.ours_waited,
            Which::Nginx => &mut self.nginx_waited,
        };
        *longest = longest.max(share(after.relay.waited_since(before.relay)));
        Ok(())
    }

    /// What a reader of the latencies must know.
    pub(super) fn note(&self, what: &str) -> String {
        let warning = match (self.load_used > BUSY, self.nginx_waited > WAITED) {
            (true, _) => "; LATENCIES ARE THE LOAD'S, not the relays'",
            (false, true) => "; OTHER PROGRAMS RAN THERE, do not quote these latencies",
            (false, false) => "",
        };
        let [load, nginx, ours] =
            [self.load_used, self.nginx_waited, self.ours_waited].map(|share| share * 100.0);
        format!(
            "{what}: engine and load used up to {load:.0} % of their core; for theirs waited nginx up to {nginx:.1} %, \
             orchestratord up to {ours:.1} % of a run{warning}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(load_used: f64, nginx_waited: f64, ours_waited: f64) -> String {
        Quiet {
            load_used,
            nginx_waited,
            ours_waited,
        }
        .note("64 streams")
    }

    #[test]
    fn a_busy_load_and_a_disturbed_relay_are_said() {
        assert!(note(0.95, 0.0, 0.0).contains("THE LOAD'S"));
        assert!(note(0.3, 0.05, 0.0).contains("OTHER PROGRAMS"));
        let expected = "64 streams: engine and load used up to 30 % of their core; for theirs waited nginx up to 0.1 %, \
                        orchestratord up to 5.0 % of a run";
        assert_eq!(
            note(0.3, 0.001, 0.05),
            expected,
            "threads of one relay may wait for each other"
        );
    }
}
