//! What holds after every dispatch round, over random arrivals, ends, cancels and drains.

use std::collections::BTreeMap;

use api_types::{PoolId, Priority, TaskId};
use orchestrator_core::dispatch::{Assignment, Job, Turns, assign};
use orchestrator_core::policy::{
    JobSpec, PlacementInput, PoolView, Readiness, Snapshot, can_start_now, decide,
};
use orchestrator_core::queue::{Admission, FullPolicy, Queue, QueueConfig, Ticket};
use proptest::prelude::*;

use super::fixtures::{
    any_job, any_snapshot, job, pin, pool, pool_id, prefer, snapshot, task, with_placement,
};

const MAX_WAIT: u64 = 20;

#[derive(Debug, Clone)]
enum Op {
    Submit(Priority, usize),
    Finish(usize),
    Cancel(usize),
    Flip(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (prop::sample::select(Priority::ALL), 0usize..8).prop_map(|(priority, job)| Op::Submit(priority, job)),
        5 => any::<usize>().prop_map(Op::Finish),
        1 => any::<usize>().prop_map(Op::Cancel),
        1 => any::<usize>().prop_map(Op::Flip),
        2 => (0u64..15).prop_map(Op::Wait),
    ]
}

/// A task whose wait is bounded from now on.
struct Bounded {
    spec: JobSpec,
    /// Tasks of its class ahead of it when the bound began.
    ahead: usize,
    /// Assignments of each pool that passed it by since then.
    passed_by: BTreeMap<PoolId, usize>,
}

impl Bounded {
    fn most_passed_by(&self) -> usize {
        self.passed_by.values().copied().max().unwrap_or(0)
    }

    /// It waits, so no pool has given its `(2k + 2)`-th slot.
    fn check_waiting(&self) -> Step {
        let (passed_by, most) = (self.most_passed_by(), 2 * self.ahead + 1);
        prop_assert!(passed_by <= most, "{passed_by} passed by, at most {most} may");
        Ok(())
    }

    /// It starts, at the latest together with the `(2k + 2)`-th.
    fn check_starting(&self) -> Step {
        let (passed_by, most) = (self.most_passed_by(), 2 * self.ahead + 2);
        prop_assert!(passed_by <= most, "{passed_by} passed by, at most {most} may");
        Ok(())
    }
}

struct World {
    queue: Queue<Job>,
    snapshot: Snapshot,
    turns: Turns,
    running: Vec<(TaskId, PoolId)>,
    bounded: BTreeMap<TaskId, Bounded>,
    submitted: u32,
    now: u64,
}

type Step = Result<(), TestCaseError>;

/// Whether the pool could start the job if it had a slot.
fn fits(job: &JobSpec, pool: &PoolView) -> bool {
    can_start_now(
        job,
        &PoolView {
            slots_free: 1,
            ..pool.clone()
        },
    )
}

impl World {
    fn new(mut snapshot: Snapshot) -> Self {
        for pool in &mut snapshot.pools {
            pool.slots_free = pool.slots_total;
        }
        let config = QueueConfig {
            capacity: 1000,
            full_policy: FullPolicy::Reject,
            batch_max_wait_ms: MAX_WAIT,
        };
        Self {
            queue: Queue::new(config),
            snapshot,
            turns: Turns::default(),
            running: Vec::new(),
            bounded: BTreeMap::new(),
            submitted: 0,
            now: 0,
        }
    }

    fn apply(&mut self, op: &Op, jobs: &[JobSpec]) {
        match *op {
            Op::Submit(priority, job) => self.submit(priority, jobs[job % jobs.len()].clone()),
            Op::Finish(n) => self.finish(n),
            Op::Cancel(n) => self.cancel(n),
            Op::Flip(n) => self.flip(n),
            Op::Wait(ms) => self.now += ms,
        }
    }

    fn submit(&mut self, priority: Priority, spec: JobSpec) {
        self.submitted += 1;
        let admission = self
            .queue
            .push(task(self.submitted), priority, self.now, Job::new(spec));
        assert!(matches!(admission, Admission::Admitted { .. }));
    }

    fn finish(&mut self, n: usize) {
        if self.running.is_empty() {
            return;
        }
        let (_, pool_id) = self.running.swap_remove(n % self.running.len());
        for pool in &mut self.snapshot.pools {
            pool.slots_free += u32::from(pool.pool_id == pool_id);
        }
    }

    fn cancel(&mut self, n: usize) {
        let len = self.queue.len().max(1);
        let victim = self
            .queue
            .order(self.now)
            .nth(n % len)
            .map(|(ticket, _)| ticket.id);
        if let Some(id) = victim {
            self.queue.remove(&id);
            self.bounded.remove(&id);
        }
    }

    fn flip(&mut self, n: usize) {
        let len = self.snapshot.pools.len().max(1);
        if let Some(pool) = self.snapshot.pools.get_mut(n % len) {
            pool.readiness = match pool.readiness {
                Readiness::Ready => Readiness::Draining,
                Readiness::Starting | Readiness::Unloaded | Readiness::Draining | Readiness::Down => {
                    Readiness::Ready
                }
            };
        }
    }

    fn round(&mut self) -> Step {
        self.start_bounds();
        let mut before = self.snapshot.clone();
        let assigned = assign(&self.queue, &mut self.snapshot, &mut self.turns, self.now);
        for assignment in &assigned {
            self.check_replay(&mut before, assignment)?;
            self.take_out(assignment)?;
        }
        prop_assert_eq!(&before, &self.snapshot);
        assigned
            .iter()
            .try_for_each(|assignment| self.check_order(assignment))?;
        self.bounded.values().try_for_each(Bounded::check_waiting)?;
        self.check_nobody_could_start()
    }

    /// Interactive tasks from their arrival, batch tasks from their ageing.
    fn start_bounds(&mut self) {
        let mut ahead = BTreeMap::from([(Priority::Interactive, 0), (Priority::Batch, 0)]);
        let mut waiting: Vec<(&Ticket, &Job)> = self.queue.order(self.now).collect();
        waiting.sort_by_key(|(ticket, _)| ticket.seq);
        for (ticket, job) in waiting {
            let of_class = ahead.entry(ticket.priority).or_default();
            let aged = self.now - ticket.enqueued_at_ms >= MAX_WAIT;
            if ticket.priority == Priority::Interactive || aged {
                self.bounded.entry(ticket.id).or_insert_with(|| Bounded {
                    spec: job.spec().clone(),
                    ahead: *of_class,
                    passed_by: BTreeMap::new(),
                });
            }
            *of_class += 1;
        }
    }

    /// Each decision was made on the slots the ones before it left.
    fn check_replay(&self, before: &mut Snapshot, assignment: &Assignment) -> Step {
        let (_, job) = self
            .queue
            .get(&assignment.ticket.id)
            .ok_or_else(|| TestCaseError::fail("assigned twice, or not waiting"))?;
        let decision = decide(&PlacementInput::new(job.spec(), before));
        prop_assert_eq!(&decision, &assignment.decision);
        prop_assert_eq!(decision.outcome.pool_id(), Some(&assignment.pool_id));
        prop_assert!(before.take_slot(&assignment.pool_id).is_ok());
        Ok(())
    }

    fn take_out(&mut self, assignment: &Assignment) -> Step {
        let Assignment { ticket, pool_id, .. } = assignment;
        self.queue.remove(&ticket.id);
        self.running.push((ticket.id, pool_id.clone()));
        let pool = self.snapshot.pool(pool_id).cloned();
        let pool = pool.ok_or_else(|| TestCaseError::fail("unknown pool"))?;
        if let Some(bounded) = self.bounded.remove(&ticket.id) {
            bounded.check_starting()?;
        }
        let passed = self.bounded.values_mut();
        for bounded in passed.filter(|bounded| fits(&bounded.spec, &pool)) {
            *bounded.passed_by.entry(pool_id.clone()).or_default() += 1;
        }
        Ok(())
    }

    /// Nobody who still waits and came before in the same class, or is of a class that goes
    /// before, could have used the slot.
    fn check_order(&self, assignment: &Assignment) -> Step {
        let started = &assignment.ticket;
        let pool = self.snapshot.pool(&assignment.pool_id);
        let young = started.priority == Priority::Batch && self.now - started.enqueued_at_ms < MAX_WAIT;
        for (waiting, job) in self.queue.order(self.now) {
            let overtaken = waiting.priority == started.priority && waiting.seq < started.seq;
            let outranked = young && waiting.priority == Priority::Interactive;
            let could_use = pool.is_some_and(|pool| fits(job.spec(), pool));
            prop_assert!(
                !(could_use && (overtaken || outranked)),
                "{waiting:?} was passed by {started:?}"
            );
        }
        Ok(())
    }

    fn check_nobody_could_start(&self) -> Step {
        for (ticket, job) in self.queue.order(self.now) {
            let startable = self
                .snapshot
                .pools
                .iter()
                .any(|pool| can_start_now(job.spec(), pool));
            prop_assert!(!startable, "{ticket:?} waits beside a free slot");
        }
        for pool in &self.snapshot.pools {
            let leases = self.running.iter().filter(|(_, on)| on == &pool.pool_id).count();
            prop_assert_eq!(leases + pool.slots_free as usize, pool.slots_total as usize);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_round_keeps_the_rules(snapshot in any_snapshot(), jobs in prop::collection::vec(any_job(), 1..8), ops in prop::collection::vec(op(), 0..200)) {
        let mut world = World::new(snapshot);
        for op in &ops {
            world.apply(op, &jobs);
            world.round()?;
        }
    }

    /// Few slots and little variety, so that nearly every assignment is contested; several things
    /// happen between rounds, so that both pools free at once.
    #[test]
    fn waits_are_bounded_under_contention(turns in prop::collection::vec(prop::collection::vec(op(), 1..4), 0..200)) {
        let pools = ["p0", "p1"].map(|name| PoolView { slots_total: 1, ..pool(name) });
        let wishes = [pin("p0"), pin("p1"), prefer(&["p0"], true), prefer(&["p1"], true)];
        let jobs: Vec<JobSpec> = wishes.map(with_placement).into_iter().chain([job()]).collect();
        let mut world = World::new(snapshot(pools));
        for ops in &turns {
            ops.iter().for_each(|op| world.apply(op, &jobs));
            world.round()?;
        }
    }
}

/// One slot, a pile of aged batch tasks and a stream of interactive ones: they alternate.
#[test]
fn a_pile_of_aged_batch_and_interactive_tasks_take_turns() {
    let one_slot = PoolView {
        slots_total: 1,
        ..pool("gpu0")
    };
    let mut world = World::new(snapshot([one_slot]));
    (0..3).for_each(|_| world.submit(Priority::Batch, job()));
    world.now = MAX_WAIT;
    (0..3).for_each(|_| world.submit(Priority::Interactive, job()));
    let mut order = Vec::new();
    for _ in 0..6 {
        world.round().unwrap();
        order.extend(world.running.iter().map(|(id, _)| *id));
        world.finish(0);
    }
    assert_eq!(order, [1, 4, 2, 5, 3, 6].map(task));
}

/// Turns are kept per pool: what happens on one pool does not use up a turn on another.
#[test]
fn turns_of_one_pool_do_not_count_on_another() {
    let pools = ["p0", "p1"].map(|name| PoolView {
        slots_total: 1,
        slots_free: 0,
        ..pool(name)
    });
    let mut world = World::new(snapshot(pools));
    for pool in ["p0", "p1"] {
        (0..4).for_each(|_| world.submit(Priority::Batch, with_placement(pin(pool))));
    }
    world.now = MAX_WAIT;
    for pool in ["p0", "p1"] {
        (0..4).for_each(|_| world.submit(Priority::Interactive, with_placement(pin(pool))));
    }
    let mut on_p0 = Vec::new();
    for _ in 0..8 {
        world.round().unwrap();
        on_p0.extend(
            world
                .running
                .iter()
                .filter(|(_, on)| *on == pool_id("p0"))
                .map(|(id, _)| *id),
        );
        (0..2).for_each(|_| world.finish(0));
    }
    assert_eq!(on_p0, [1, 9, 2, 10, 3, 11, 4, 12].map(task));
}

/// Aged tasks that prefer one pool and an interactive task that prefers the other: when both pools
/// free at once both start, and the pile does not take both.
#[test]
fn tasks_that_want_different_pools_both_start() {
    let pools = ["p0", "p1"].map(|name| PoolView {
        slots_total: 1,
        ..pool(name)
    });
    let mut world = World::new(snapshot(pools));
    (0..4).for_each(|_| world.submit(Priority::Batch, with_placement(prefer(&["p0"], true))));
    world.now = MAX_WAIT;
    world.submit(Priority::Interactive, with_placement(prefer(&["p1"], true)));
    world.round().unwrap();
    assert_eq!(
        world.running,
        [(task(1), pool_id("p0")), (task(5), pool_id("p1"))]
    );
}

#[test]
fn a_queue_of_other_models_does_not_hide_the_one_that_fits() {
    let mut world = World::new(snapshot([pool("gpu0")]));
    let mut other = job();
    other.needs.model_ref = "absent".parse().unwrap();
    (0..100).for_each(|_| world.submit(Priority::Interactive, other.clone()));
    let deep = JobSpec {
        ctx_tokens: 9000,
        ..job()
    };
    world.submit(Priority::Interactive, deep);
    world.submit(Priority::Batch, job());
    world.round().unwrap();
    assert_eq!(world.running, [(task(102), pool_id("gpu0"))]);
}

#[test]
fn a_round_without_a_free_slot_changes_nothing() {
    let mut world = World::new(snapshot([PoolView {
        slots_total: 0,
        ..pool("gpu0")
    }]));
    world.submit(Priority::Interactive, job());
    world.round().unwrap();
    assert_eq!((world.queue.len(), world.snapshot.version), (1, 7));
    world.turns.retain(|_| false);
    assert_eq!(world.turns, Turns::default());
}
