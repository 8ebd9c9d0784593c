//! What is measured and what it is measured on: the orchestrator, nginx, and the scripted engine behind both. Touches
//! processes that it starts and the run's own folder.

mod engine;
mod nginx;
mod orchestrator;
mod report;

use std::path::PathBuf;

use anyhow::Result;

use crate::child::Child;
use crate::cpus::Cpus;
use crate::load::Target;

pub(crate) use engine::Engine;
pub(crate) use nginx::version as nginx_version;

/// What every started program needs to know.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The orchestrator's `durability`.
    pub(crate) durability: String,
    /// The folder of the built programs.
    pub(crate) binaries: PathBuf,
    /// For configurations and logs.
    pub(crate) folder: PathBuf,
    pub(crate) cpus: Cpus,
}

/// A relay that runs.
#[derive(Debug)]
pub(crate) struct Relay {
    child: Child,
    pub(crate) target: Target,
}

impl Relay {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }
}

/// Which relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Ours,
    Nginx,
}

impl Which {
    /// Both, the other one first in every other round: what drifts falls out of the comparison.
    pub(crate) fn in_turn(round: usize) -> [Self; 2] {
        if round.is_multiple_of(2) {
            [Self::Ours, Self::Nginx]
        } else {
            [Self::Nginx, Self::Ours]
        }
    }
}

/// Engine and both relays, ready.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) ours: Relay,
    pub(crate) nginx: Relay,
    pub(crate) engine: Engine,
}

impl Rig {
    /// Starts relays for an engine.
    ///
    /// # Errors
    /// One of them does not come up.
    pub(crate) async fn start(ground: &Ground, engine: Engine) -> Result<Self> {
        Ok(Self {
            ours: engine.behind_ours(ground).await?,
            nginx: engine.behind_nginx(ground).await?,
            engine,
        })
    }

    /// A relay.
    pub(crate) fn relay(&self, which: Which) -> &Relay {
        match which {
            Which::Ours => &self.ours,
            Which::Nginx => &self.nginx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_first_in_turn() {
        assert_eq!(Which::in_turn(0)[0], Which::Ours);
        assert_eq!(Which::in_turn(1)[0], Which::Nginx);
    }
}
