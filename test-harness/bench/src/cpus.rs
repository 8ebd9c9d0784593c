//! Which core does what: the relay under measurement has one to itself, engine and load share another. Touches the
//! affinity of the calling thread, which children inherit.

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus {
    relay: usize,
    load: usize,
}

/// Where a process belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The relay under measurement.
    Relay,
    /// The engine, and this program.
    Load,
}

impl Cpus {
    /// The first two cores that this process may use, or the only one twice.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("asking for this process's cores")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let relay = cores.next().context("this process may use no core")?;
        Ok(Self {
            relay,
            load: cores.next().unwrap_or(relay),
        })
    }

    /// Whether relay and load disturb each other.
    pub(crate) fn are_shared(&self) -> bool {
        self.relay == self.load
    }

    /// What a reader of the figures must know about the cores.
    pub(crate) fn describe(&self) -> String {
        if self.are_shared() {
            return "one core for relay, engine and load: latencies mean little".to_owned();
        }
        format!(
            "relay on core {}, engine and load on core {}",
            self.relay, self.load
        )
    }

    /// Moves the calling thread, and what it starts from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn pin(&self, side: Side) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(match side {
            Side::Relay => self.relay,
            Side::Load => self.load,
        });
        sched_setaffinity(None, &set).context("pinning to a core")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cores_are_ones_we_may_use() {
        let cpus = Cpus::find().unwrap();
        cpus.pin(Side::Load).unwrap();
        let now = sched_getaffinity(None).unwrap();
        assert!(now.is_set(cpus.load) && now.count() == 1);
    }

    #[test]
    fn sharing_a_core_is_said() {
        assert!(Cpus { relay: 3, load: 3 }.describe().contains("mean little"));
        assert_eq!(
            Cpus { relay: 0, load: 5 }.describe(),
            "relay on core 0, engine and load on core 5"
        );
    }
}
