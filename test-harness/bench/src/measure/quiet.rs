//! Whether the cores were left to the run: what engine and load used of theirs, and how long a relay waited for its own.

use anyhow::Result;

use crate::accounting::CpuTime;
use crate::clock::now_ns;
use crate::relay::{Relay, Rig};

/// Above this share of its core, the load is part of the latency.
const BUSY: f64 = 0.8;
/// Above this share of a run, somebody else had the relay's core too often for its latencies to be quoted.
const WAITED: f64 = 0.02;

/// The worst that was seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Quiet {
    /// Largest share of its core that engine and load used together.
    load_used: f64,
    /// Largest share of a run in which a relay could have worked but had no core.
    relay_waited: f64,
}

/// The books before a run.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    rig: &'a Rig,
    relay: &'a Relay,
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
    fn read(rig: &Rig, relay: &Relay) -> Result<Self> {
        Ok(Self {
            engine: CpuTime::of(rig.engine.pid())?,
            load: CpuTime::of(std::process::id())?,
            relay: CpuTime::of(relay.pid())?,
        })
    }
}

impl<'a> Watch<'a> {
    /// Before a run of `relay`.
    ///
    /// # Errors
    /// A process has ended.
    pub(super) fn start(rig: &'a Rig, relay: &'a Relay) -> Result<Self> {
        Ok(Self {
            rig,
            relay,
            started_ns: now_ns(),
            before: Books::read(rig, relay)?,
        })
    }
}

impl Quiet {
    /// After the run.
    ///
    /// # Errors
    /// A process has ended.
    pub(super) fn look(&mut self, watch: &Watch<'_>) -> Result<()> {
        let (before, after) = (&watch.before, Books::read(watch.rig, watch.relay)?);
        let wall_ns = now_ns() - watch.started_ns;
        let share = |ns: u64| ns as f64 / wall_ns.max(1) as f64;
        let load = after.engine.since(before.engine) + after.load.since(before.load);
        self.load_used = self.load_used.max(share(load));
        self.relay_waited = self
            .relay_waited
            .max(share(after.relay.waited_since(before.relay)));
        Ok(())
    }

    /// What a reader of the latencies must know.
    pub(super) fn note(&self, what: &str) -> String {
        let Self {
            load_used,
            relay_waited,
        } = self;
        let warning = match (*load_used > BUSY, *relay_waited > WAITED) {
            (true, _) => ": LATENCIES ARE THE LOAD'S, not the relays'",
            (false, true) => ": OTHER PROGRAMS RAN THERE, do not quote these latencies",
            (false, false) => "",
        };
        format!(
            "{what}: engine and load used up to {:.0} % of their core, a relay waited up to {:.1} % of a run for its own{warning}",
            load_used * 100.0,
            relay_waited * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_load_and_a_disturbed_relay_are_said() {
        let note = |load_used, relay_waited| {
            Quiet {
                load_used,
                relay_waited,
            }
            .note("64 streams")
        };
        assert!(note(0.95, 0.0).contains("THE LOAD'S"));
        assert!(note(0.3, 0.05).contains("OTHER PROGRAMS"));
        let expected = "64 streams: engine and load used up to 30 % of their core, a relay waited up to 0.1 % of a run for its own";
        assert_eq!(note(0.3, 0.001), expected);
    }
}
