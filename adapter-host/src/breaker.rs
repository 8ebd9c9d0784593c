//! The circuit breaker of one replica: after repeated failures it is left alone for a while, then asked once, and either
//! serves again or rests longer.
//!
//! ```text
//!            `faults_to_open` faults in a row                  cooldown over, next call is the probe
//!   Closed ──────────────────────────────────▶ Open(until) ────────────────────────────────────▶ HalfOpen
//!     ▲                                            ▲                    the probe fails             │  │
//!     │                                            └───────────────────────────────────────────────┘  │
//!     └───────────────────────────────── the probe shows progress (one more fault opens again) ────────┘
//! ```
//!
//! [`Circuit`] is the pure machine; [`Breaker`] gives it a lock and the clock. Asked once per generation, never per token.

mod circuit;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use circuit::{Admission, Circuit};

/// When to stop asking an engine, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Faults in a row after which a replica is left alone; at least 1.
    pub faults_to_open: u32,
    /// Shortest rest. It doubles with every rest in a row, and jitter adds up to its own length.
    pub cooldown: Duration,
    /// Longest rest before jitter; at least `cooldown`.
    pub cooldown_max: Duration,
}

/// Where a breaker stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// The replica is asked as usual.
    Closed,
    /// It is left alone.
    Open,
    /// One call tries whether it serves again.
    HalfOpen,
}

/// A breaker refused the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resting {
    /// When the next call may try, from now.
    pub(crate) retry_after: Duration,
}

/// What a call was worth, seen from the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The engine works, whatever it thinks of the request.
    Well,
    /// It does not.
    Fault,
    /// The call tells nothing about the engine.
    Unclear,
}

/// What a verdict changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that others see.
    None,
    /// The breaker opened: the replica rests for so long.
    Opened(Duration),
    /// The breaker closed: the replica serves again.
    Closed,
}

/// One replica's breaker.
pub(crate) struct Breaker {
    circuit: Mutex<Circuit>,
}

impl Breaker {
    pub(crate) fn new(options: BreakerOptions) -> Arc<Self> {
        Arc::new(Self {
            circuit: Mutex::new(Circuit::new(options)),
        })
    }

    /// Asks for a call.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Pass, Resting> {
        let pass = |probe| Pass {
            breaker: Arc::clone(self),
            probe,
        };
        match self.circuit().admit(Instant::now()) {
            Admission::Granted => Ok(pass(false)),
            Admission::Probe => Ok(pass(true)),
            Admission::Refused(retry_after) => Err(Resting { retry_after }),
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.circuit().state()
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        // The machine is consistent between any two statements: a panic elsewhere cannot have spoiled it.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker").field(&self.state()).finish()
    }
}

/// Leave to make one call. A probe that is dropped without a verdict makes room for another one.
#[derive(Debug)]
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    probe: bool,
}

impl Pass {
    /// Whether this call tries if the replica serves again.
    pub(crate) const fn is_probe(&self) -> bool {
        self.probe
    }

    /// The engine has shown progress. A probe is over with that: others may call while it goes on.
    pub(crate) fn progress(&mut self) -> Change {
        if std::mem::take(&mut self.probe) {
            self.breaker.circuit().probe_served()
        } else {
            Change::None
        }
    }

    /// The call is over.
    pub(crate) fn settle(mut self, verdict: Verdict) -> Change {
        match verdict {
            Verdict::Well => {
                let change = self.progress();
                self.breaker.circuit().well();
                change
            }
            Verdict::Fault => {
                let probe = std::mem::take(&mut self.probe);
                self.breaker.circuit().fault(probe, Instant::now())
            }
            Verdict::Unclear => Change::None,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.circuit().probe_abandoned(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
