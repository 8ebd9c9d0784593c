//! The breaker as a pure machine: time comes in as an argument, changes go out as data.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::{BreakerOptions, BreakerState, Change};

/// What a call may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Granted,
    /// Go on, alone: the outcome decides for everybody.
    Probe,
    /// Not now; ask again after this.
    Refused(Duration),
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// So many faults in a row.
    Closed {
        faults: u32,
    },
    Open {
        until: Instant,
    },
    /// A probe is on its way.
    HalfOpen,
}

#[derive(Debug)]
pub(super) struct Circuit {
    options: BreakerOptions,
    phase: Phase,
    /// The rests to come; begins anew when a call ends well.
    rests: ExponentialBackoff,
}

impl Circuit {
    pub(super) fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            phase: Phase::Closed { faults: 0 },
            rests: rests(&options),
        }
    }

    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match self.phase {
            Phase::Closed { .. } => Admission::Granted,
            Phase::Open { until } if now < until => Admission::Refused(until - now),
            Phase::Open { .. } => {
                self.phase = Phase::HalfOpen;
                Admission::Probe
            }
            // Nobody knows how long the probe takes.
            Phase::HalfOpen => Admission::Refused(self.options.cooldown),
        }
    }

    /// The probe has brought a token: the replica serves, on trial until a call ends well.
    pub(super) fn probe_served(&mut self) -> Change {
        self.phase = Phase::Closed {
            faults: self.options.faults_to_open - 1,
        };
        Change::Closed
    }

    /// The probe was given up before it could tell anything.
    pub(super) fn probe_abandoned(&mut self, now: Instant) {
        self.phase = Phase::Open { until: now };
    }

    /// A call ended well. Calls that began before the breaker opened do not close it.
    pub(super) fn well(&mut self) {
        if let Phase::Closed { faults } = &mut self.phase {
            *faults = 0;
            self.rests = rests(&self.options);
        }
    }

    /// A call failed. Calls that began before the breaker opened change nothing any more.
    pub(super) fn fault(&mut self, probe: bool, now: Instant) -> Change {
        match &mut self.phase {
            Phase::Closed { faults } => {
                *faults += 1;
                if *faults < self.options.faults_to_open {
                    return Change::None;
                }
            }
            Phase::HalfOpen if probe => {}
            Phase::HalfOpen | Phase::Open { .. } => return Change::None,
        }
        // The rests never run out.
        let rest = self.rests.next().unwrap_or(self.options.cooldown_max);
        self.phase = Phase::Open { until: now + rest };
        Change::Opened(rest)
    }

    pub(super) const fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen => BreakerState::HalfOpen,
        }
    }
}

fn rests(options: &BreakerOptions) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_factor(2.0)
        .with_min_delay(options.cooldown)
        .with_max_delay(options.cooldown_max)
        .without_max_times()
        .with_jitter()
        .build()
}
