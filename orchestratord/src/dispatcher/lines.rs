//! The waiting tasks against the pools there are: in whose line each stands (the bound per pool), and
//! which of them no pool can serve any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_types::{ErrorBody, PoolId, Priority, TaskId};
use orchestrator_core::dispatch::Job;
use orchestrator_core::policy::{JobSpec, Outcome, PoolView, Readiness, Refused, Snapshot, could_serve};
use orchestrator_core::queue::{FullPolicy, Lines, RefusedBecause, Ticket};
use tokio::time::Instant;

use super::Dispatcher;
use super::handle::PromptTokens;

/// Tasks that no pool can serve, with the time since when.
#[derive(Debug, Default)]
pub(super) struct Stranded {
    since: BTreeMap<TaskId, (Instant, Refused)>,
    /// The fleet on which that was found.
    looked_at: Option<u64>,
}

impl Dispatcher {
    /// Makes room in the line that a newcomer joins (REQ-QUEUE-PER-POOL): tells which, and whom it
    /// displaces. `None` for a task that no pool could serve, which stands in no line.
    pub(super) fn line_for(
        &mut self,
        spec: &JobSpec,
        priority: Priority,
        now: Instant,
    ) -> Result<Option<(PoolId, Option<TaskId>)>, RefusedBecause> {
        if self.lines.total() < self.queue.len() {
            self.refresh_lines(now);
        }
        let snapshot = Arc::clone(self.planner.snapshot(&self.fleet, now));
        let Some(pool) = shortest(&self.lines, spec, &snapshot) else {
            return Ok(None);
        };
        if !self.lines.is_full(pool) {
            return Ok(Some((pool.clone(), None)));
        }
        match self.options.queue.full_policy {
            FullPolicy::Reject => Err(self.lines.full(pool)),
            FullPolicy::DropLru => {
                let victim = self.lines.victim(pool, priority)?;
                Ok(Some((pool.clone(), Some(victim))))
            }
        }
    }

    /// Puts a task that was admitted before back to where it stood: its engine failed it, or the
    /// daemon was started anew. It stands in line again, and no bound holds it up.
    pub(super) fn requeue(&mut self, ticket: Ticket, spec: &JobSpec, now: Instant) {
        let snapshot = Arc::clone(self.planner.snapshot(&self.fleet, now));
        self.queue.restore(ticket, Job::new(spec.clone()));
        if let Some(pool) = shortest(&self.lines, spec, &snapshot) {
            let pool = pool.clone();
            self.lines.join(&ticket, &pool);
        }
    }

    /// Looks after the waiting tasks once the fleet has changed, and ends those that no pool could
    /// serve for too long (REQ-QUEUE-STRANDED).
    pub(super) fn look_after_waiting(&mut self, now: Instant) {
        self.refresh_lines(now);
        self.end_stranded(now);
    }

    /// Looks at the lines again if the fleet has changed since. Before the first report to this process nothing is
    /// known of any pool, and what a restart has taken up waits for it.
    fn refresh_lines(&mut self, now: Instant) {
        let version = self.fleet.version();
        if version > 0 && self.stranded.looked_at != Some(version) {
            self.stranded.looked_at = Some(version);
            self.review_waiting(now);
            self.dirty = true;
        }
    }

    fn review_waiting(&mut self, now: Instant) {
        let snapshot = Arc::clone(self.planner.snapshot(&self.fleet, now));
        let now_ms = self.now_ms(now);
        let waiting: Vec<(Ticket, JobSpec)> = self
            .queue
            .order(now_ms)
            .map(|(ticket, job)| (*ticket, job.spec().clone()))
            .collect();
        let mut still = BTreeMap::new();
        for (ticket, spec) in waiting {
            self.review_line(&ticket, &spec, &snapshot);
            let decision = self.cache.decide(&spec, &snapshot, now_ms);
            if let Outcome::Refused(refused) = &decision.outcome {
                let known = self.stranded.since.get(&ticket.id).map(|(since, _)| *since);
                still.insert(ticket.id, (known.unwrap_or(now), refused.clone()));
            }
        }
        self.stranded.since = still;
    }

    /// A task whose line's pool is gone, or cannot serve it any more, joins another, or none.
    fn review_line(&mut self, ticket: &Ticket, spec: &JobSpec, snapshot: &Snapshot) {
        let line = self.lines.line_of(&ticket.id);
        let good = line
            .and_then(|pool| snapshot.pool(pool))
            .is_some_and(|view| takes(spec, view));
        if good {
            return;
        }
        match shortest(&self.lines, spec, snapshot) {
            Some(pool) => self.lines.join(ticket, pool),
            None => self.lines.leave(&ticket.id),
        }
    }

    fn end_stranded(&mut self, now: Instant) {
        let limit = self.options.stranded_max_wait;
        let due = |since: &Instant| now.saturating_duration_since(*since) >= limit;
        let overdue: Vec<(TaskId, Refused)> = self
            .stranded
            .since
            .iter()
            .filter(|(id, (since, _))| due(since) && self.queue.get(id).is_some())
            .map(|(id, (_, refused))| (*id, refused.clone()))
            .collect();
        for (id, refused) in overdue {
            self.stranded.since.remove(&id);
            if let Some(body) = self.stranded_body(id, &refused, limit) {
                self.fail(id, body);
                self.narrate_end(
                    id,
                    "stranded",
                    "No pool that could serve the task came back in time.",
                );
            }
        }
    }

    fn stranded_body(&self, id: TaskId, refused: &Refused, waited: Duration) -> Option<ErrorBody> {
        let task = self.tasks.get(&id)?;
        let prompt = PromptTokens::AtMost(task.spec.ctx_tokens);
        let mut body = self.infeasible(&task.request, prompt, refused, Instant::now());
        let waited = waited.as_millis();
        body.message = format!("{}; none came back within {waited} ms", body.message);
        Some(body)
    }
}

/// Whether a task may stand in the line of a pool.
fn takes(spec: &JobSpec, view: &PoolView) -> bool {
    let works = matches!(
        view.readiness,
        Readiness::Ready | Readiness::Starting | Readiness::Unloaded
    );
    works && could_serve(spec, view)
}

fn shortest<'s>(lines: &Lines, spec: &JobSpec, snapshot: &'s Snapshot) -> Option<&'s PoolId> {
    let takes = snapshot.pools.iter().filter(|view| takes(spec, view));
    lines.shortest(takes.map(|view| &view.pool_id))
}
