//! What the plays say of one task.

use api_types::{ModelId, PoolId};

use super::draw::Draw;
use super::forecast::MOST_PLAYS;
use super::model::{Measured, Running};
use super::play::{UNKNOWN, later};

/// When a task starts and ends, on the clock that the forecast was made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    start_at_ms: u64,
    end_at_ms: u64,
    on_time: Option<f64>,
}

impl Outlook {
    /// Ms from `now_ms` until it gets a slot; `None` where nothing measured supports a time.
    #[must_use]
    pub const fn start_ms(&self, now_ms: u64) -> Option<u64> {
        known_in(self.start_at_ms, now_ms)
    }

    /// Ms from `now_ms` until it ends; `None` where nothing measured supports a time.
    #[must_use]
    pub const fn end_ms(&self, now_ms: u64) -> Option<u64> {
        known_in(self.end_at_ms, now_ms)
    }

    /// The chance to end before its deadline, 0 to 1; `None` without a deadline or measurement.
    #[must_use]
    pub const fn on_time_probability(&self) -> Option<f64> {
        self.on_time
    }
}

const fn known_in(at_ms: u64, now_ms: u64) -> Option<u64> {
    if at_ms == UNKNOWN {
        return None;
    }
    Some(at_ms.saturating_sub(now_ms))
}

/// A task on its slot in one play.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The middle of the plays, and the share that is in time.
pub(super) fn outlook(visits: &[Visit], deadline_at_ms: Option<u64>) -> Outlook {
    let mut starts: Vec<u64> = visits.iter().map(|visit| visit.start).collect();
    let mut ends: Vec<u64> = visits.iter().map(|visit| visit.end).collect();
    Outlook {
        start_at_ms: middle(&mut starts),
        on_time: deadline_at_ms.and_then(|deadline| share_before(&ends, deadline)),
        end_at_ms: middle(&mut ends),
    }
}

/// When a running task ends, and the chance that this is before its deadline; `None` until
/// measured.
#[must_use]
pub fn outlook_of_running(
    measured: &Measured,
    (pool, model): (&PoolId, &ModelId),
    running: &Running,
    now_ms: u64,
    deadline_at_ms: Option<u64>,
) -> Option<Outlook> {
    let stats = measured.stats(pool, model)?;
    let length = measured.length(model, &running.demand);
    let draw = Draw::new(1, MOST_PLAYS);
    let visit = |index| {
        let tokens = length.tokens(running.generated, draw.quantile(index))?;
        let left = stats.remaining_ms(running, tokens, draw.spreads(index))?;
        Some(Visit {
            start: now_ms,
            end: later(now_ms, left),
        })
    };
    let visits = (0..MOST_PLAYS).map(visit).collect::<Option<Vec<Visit>>>()?;
    Some(outlook(&visits, deadline_at_ms))
}

/// The median; the later of the middle two would favour lateness, so their mean is taken.
fn middle(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    let upper = times.len() / 2;
    match (times.get(upper.saturating_sub(1)), times.get(upper)) {
        (Some(&low), Some(&high)) if times.len().is_multiple_of(2) && high != UNKNOWN => low.midpoint(high),
        (_, Some(&high)) => high,
        _ => UNKNOWN,
    }
}

/// The share of known times up to `deadline`; `None` when one is unknown. A play more on either
/// side keeps it from claiming certainty.
fn share_before(ends: &[u64], deadline: u64) -> Option<f64> {
    if ends.is_empty() || ends.contains(&UNKNOWN) {
        return None;
    }
    let on_time = ends.iter().filter(|end| **end <= deadline).count();
    Some((on_time as f64 + 0.5) / (ends.len() as f64 + 1.0))
}
