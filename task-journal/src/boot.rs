//! Time that goes on while a process is down: the kernel's boot clock, valid within one boot.

use std::fs;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The running boot of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    id: Option<Uuid>,
}

/// A point in time of one boot. Comparable only with points of the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot; absent where the kernel does not tell, which makes every pause unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Uuid>,
    /// Since the boot, sleep included, ms.
    pub ms: u64,
}

impl Boot {
    /// The boot this process runs in.
    #[must_use]
    pub fn current() -> Self {
        let id = fs::read_to_string(BOOT_ID_FILE).ok();
        Self {
            id: id.and_then(|text| text.trim().parse().ok()),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        let since = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(since.tv_nsec).unwrap_or_default();
        Moment {
            boot: self.id,
            ms: seconds * 1000 + nanos / 1_000_000,
        }
    }
}

impl Moment {
    /// Milliseconds from `earlier` to this; 0 when they are of different boots: how long a machine
    /// was off is not known without its wall clock, which decides nothing here.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> u64 {
        if self.boot.is_some() && self.boot == earlier.boot {
            self.ms.saturating_sub(earlier.ms)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_within_a_boot_counts_and_across_boots_is_unknown() {
        let boot = Boot::current();
        let now = boot.now();
        let later = Moment {
            ms: now.ms + 1500,
            ..now
        };
        assert_eq!((later.since(&now), now.since(&later)), (1500, 0));
        let other = Moment {
            boot: Some(Uuid::from_u128(1)),
            ..later
        };
        assert_eq!(other.since(&now), 0);
        let unknown = Moment { boot: None, ..later };
        assert_eq!(unknown.since(&Moment { boot: None, ..now }), 0);
    }
}
