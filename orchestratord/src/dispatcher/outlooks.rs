//! Estimates of the dispatcher's own tasks: what the estimator is asked, with the queue and the task
//! table at hand.

use std::sync::Arc;

use api_types::{PoolId, TaskId, TaskState};
use orchestrator_core::eta::Size;
use orchestrator_core::policy::JobSpec;
use tokio::time::Instant;

use super::Dispatcher;
use super::estimate::{Estimate, Moment, World};
use super::tasks::{Task, TaskTable};

impl Dispatcher {
    /// A moment on both clocks.
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment {
            now,
            ms: self.now_ms(now),
        }
    }

    /// A waiting task.
    pub(super) fn estimate_waiting(&mut self, id: &TaskId, at: Moment) -> Estimate {
        let snapshot = Arc::clone(self.planner.snapshot(&self.fleet, at.now));
        let world = World {
            snapshot: &snapshot,
            fleet: &self.fleet,
            queue: &self.queue,
        };
        let size = size_in(&self.tasks, self.origin);
        self.planner.estimator.waiting(id, &world, size, at)
    }

    /// A running task; nothing for one that has ended.
    pub(super) fn estimate_running(&self, id: &TaskId, at: Moment) -> Estimate {
        let running = |task: &&Task| task.state == TaskState::Running;
        let Some((task, facts)) = self
            .tasks
            .get(id)
            .filter(running)
            .and_then(|task| Some((task, task.facts()?)))
        else {
            return Estimate::default();
        };
        let deadline = size_of(task, self.origin).deadline_at_ms;
        let estimator = &self.planner.estimator;
        estimator.running(&facts.pool_id, &facts.model_id, id, deadline, at)
    }

    /// A task that would come now.
    pub(super) fn estimate_newcomer(&mut self, spec: &JobSpec, own: &Size, at: Moment) -> Estimate {
        let snapshot = Arc::clone(self.planner.snapshot(&self.fleet, at.now));
        let world = World {
            snapshot: &snapshot,
            fleet: &self.fleet,
            queue: &self.queue,
        };
        let size = size_in(&self.tasks, self.origin);
        self.planner.estimator.newcomer(spec, own, &world, size, at)
    }

    /// A task that has just joined the queue; `pool` is the one that the policy would choose.
    pub(super) fn estimate_joined(
        &mut self,
        id: TaskId,
        pool: Option<&PoolId>,
        (spec, own): (&JobSpec, &Size),
        at: Moment,
    ) -> Estimate {
        let snapshot = Arc::clone(self.planner.snapshot(&self.fleet, at.now));
        let alone = self.queue.len() == 1;
        let free = pool
            .and_then(|pool| snapshot.pool(pool))
            .filter(|view| view.has_free_slot());
        if let Some(view) = free.filter(|_| alone) {
            return self.planner.estimator.starts_now(view, spec, own, &snapshot, at);
        }
        let world = World {
            snapshot: &snapshot,
            fleet: &self.fleet,
            queue: &self.queue,
        };
        let size = size_in(&self.tasks, self.origin);
        self.planner.estimator.joined(id, spec, own, &world, size, at)
    }
}

/// What the board needs to know of each waiting task.
fn size_in(tasks: &TaskTable, origin: Instant) -> impl Fn(&TaskId) -> Option<Size> {
    move |id| tasks.get(id).map(|task| size_of(task, origin))
}

fn size_of(task: &Task, origin: Instant) -> Size {
    let ms = |at: Instant| at.saturating_duration_since(origin).as_millis() as u64;
    Size {
        demand: task.demand,
        deadline_at_ms: task.deadline.map(ms),
    }
}
