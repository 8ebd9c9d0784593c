//! When a client that is turned away is to come back: from the running tasks and from the engines that are being
//! started (ORCH-3106). Reads only.

use orchestrator_core::eta::{first_end_ms, retry_after_ms};
use orchestrator_core::policy::{PoolView, Refused};
use tokio::time::Instant;

use super::Dispatcher;
use crate::jitter::jitter;

impl Dispatcher {
    /// When a place in the queue frees, with jitter; `None` while nothing runs and no engine is on its way.
    pub(super) fn retry_after(&self, now: Instant) -> Option<u64> {
        self.a_slot_in(now).map(|wait| retry_after_ms(wait, jitter()))
    }

    /// When a refused task's pools may be back, with jitter: the first engine that is being started, else after as
    /// long again as the shortest outage has lasted, but no longer than a waiting task would wait for them.
    pub(super) fn retry_when_ready(&self, refused: &Refused, now: Instant) -> Option<u64> {
        let outage = if self.fleet.is_empty() {
            Some(now.saturating_duration_since(self.started_at))
        } else {
            let pools = refused.pools.iter();
            let outages = pools.filter_map(|pool| self.fleet.unready_for(&pool.pool_id, now));
            outages.min()
        };
        let snapshot = self.planner.last_snapshot();
        let views = refused
            .pools
            .iter()
            .filter_map(|pool| snapshot.pool(&pool.pool_id));
        let as_long_again = || {
            let wait = outage?.min(self.options.stranded_max_wait);
            Some(wait.as_millis() as u64)
        };
        let wait = self.ready_in(views, now).or_else(as_long_again);
        wait.map(|wait| retry_after_ms(wait, jitter()))
    }

    /// Tells the doors what refusals without a pause of their own are to say.
    pub(super) fn tell_pause(&self, now: Instant) {
        self.parts.pause.expect(self.a_slot_in(now));
    }

    /// The same while the daemon stops: what runs has `until` to end, then the next process can start.
    pub(super) fn tell_pause_of_stop(&self, now: Instant, until: Instant) {
        let grace = until.saturating_duration_since(now).as_millis() as u64;
        let snapshot = self.planner.last_snapshot();
        let running = self.planner.estimator.all_running(snapshot, now).into_iter();
        let longest = running.map(|(left, _)| left.unwrap_or(grace).min(grace)).max();
        self.parts.pause.expect(longest);
    }

    fn a_slot_in(&self, now: Instant) -> Option<u64> {
        let snapshot = self.planner.last_snapshot();
        let running = self.planner.estimator.all_running(snapshot, now);
        first_end_ms(running).or_else(|| self.ready_in(snapshot.pools.iter(), now))
    }

    fn ready_in<'v>(&self, views: impl Iterator<Item = &'v PoolView>, now: Instant) -> Option<u64> {
        let estimator = &self.planner.estimator;
        views
            .filter_map(|view| estimator.ready_in(view, &self.fleet, now))
            .min()
    }
}
