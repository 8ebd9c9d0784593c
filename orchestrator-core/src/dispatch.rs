//! Who gets the free slots: the next assignments from the queue and the pools, as data.
//!
//! # Rules
//! - No feasible ready slot stays free while a task waits that could use it (ORCH-3254, invariant 3).
//! - Inside each class tasks are asked in order of arrival, so a later one never takes a slot an
//!   earlier one of its class could use (invariant 4).
//! - Where an aged batch task and an interactive task want the same pool they take turns:
//!   [`Turns`] remembers per pool whether its last slot went to an aged batch task, and if so the
//!   interactive one is first. Where the two want different pools both start.
//! - Young batch tasks get what neither can use.
//!
//! # Why waits are bounded (ORCH-3253)
//! Let `b` be an aged batch task with `k` batch tasks ahead of it, and `p` a pool that can serve
//! it. Count the assignments of `p` from then on while `b` still waits. Those to batch tasks go to
//! the `k` ahead: an earlier one is asked first, and a later one is not asked for `p` before `b`.
//! Take one to an interactive task. At that moment `p` had a free slot, so some aged task at or
//! before `b` could be placed. Either that one wanted `p` too and it was not its turn, then the
//! assignment of `p` before went to an aged task: one of the `k` or, once, one from before the
//! count began. Or it wanted another pool, then it started at the same time and is one of the
//! `k`. Each of the `k` accounts for at most one interactive assignment, and one more comes from
//! before the count: at most `k + (k + 1)` assignments of `p` pass `b` by. The `(2k + 2)`-th is its
//! own, unless it starts on another pool before or together with it. The same argument with the
//! classes exchanged bounds an interactive task.
//!
//! # Cost
//! A round walks the queue once. A task is compared with the pools that have a free slot only if
//! no equal one with as little context was turned away in this round before it; the walk ends when
//! no slot is free. When a task arrives and nothing else has changed, everybody before it has been
//! turned away already, and a round is not needed: `policy::can_start_now` answers for it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;

use api_types::PoolId;

use crate::policy::{JobSpec, Outcome, PlacementDecision, PlacementInput, Snapshot, can_start_now, decide};
use crate::queue::{Lanes, Queue, Ticket, WaitingLane};

/// A job with a fingerprint of its requirements, so that equal ones are recognised cheaply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    spec: JobSpec,
    fingerprint: u64,
}

impl Job {
    /// Computes the fingerprint once, at admission.
    #[must_use]
    pub fn new(spec: JobSpec) -> Self {
        let mut hasher = DefaultHasher::new();
        spec.needs.hash(&mut hasher);
        let fingerprint = hasher.finish();
        Self { spec, fingerprint }
    }

    /// Equal requirements have equal fingerprints; unequal ones nearly never.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The job.
    #[must_use]
    pub const fn spec(&self) -> &JobSpec {
        &self.spec
    }
}

impl AsRef<Self> for Job {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Whose turn it is on each pool. Kept by the caller from round to round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    after_aged: BTreeSet<PoolId>,
}

impl Turns {
    fn aged_is_next(&self, pool: &PoolId) -> bool {
        !self.after_aged.contains(pool)
    }

    fn record(&mut self, pool: &PoolId, group: Group) {
        if group != Group::Aged {
            self.after_aged.remove(pool);
        } else if !self.after_aged.contains(pool) {
            self.after_aged.insert(pool.clone());
        }
    }

    /// Forgets pools that are gone.
    pub fn retain(&mut self, keep: impl FnMut(&PoolId) -> bool) {
        self.after_aged.retain(keep);
    }
}

/// One task that starts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The task; it is still in the queue.
    pub ticket: Ticket,
    /// Its pool. The slot is already taken in the snapshot.
    pub pool_id: PoolId,
    /// How the pool was chosen. The n-th decision of a round was made on the round's snapshot with
    /// the slots of the first n − 1 assignments taken.
    pub decision: PlacementDecision,
}

/// Gives the free slots of the snapshot to waiting tasks. Takes each given slot in `snapshot` and
/// remembers turns; the caller removes the tasks from the queue and starts them.
pub fn assign<T: AsRef<Job>>(
    queue: &Queue<T>,
    snapshot: &mut Snapshot,
    turns: &mut Turns,
    now_ms: u64,
) -> Vec<Assignment> {
    let mut round = Round::new(snapshot, turns);
    if !round.free.is_empty() {
        round.run(queue.lanes(now_ms));
    }
    round.assigned
}

/// The competing groups of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Aged,
    Interactive,
    Batch,
}

type Asked<'q, T> = Peekable<WaitingLane<'q, T>>;

struct Round<'a, 'q> {
    snapshot: &'a mut Snapshot,
    turns: &'a mut Turns,
    /// Indexes of the pools with a free slot.
    free: Vec<usize>,
    turned_away: TurnedAway<'q>,
    assigned: Vec<Assignment>,
}

impl<'a, 'q> Round<'a, 'q> {
    fn new(snapshot: &'a mut Snapshot, turns: &'a mut Turns) -> Self {
        let pools = snapshot.pools.iter().enumerate();
        let free = pools
            .filter(|(_, pool)| pool.has_free_slot())
            .map(|(i, _)| i)
            .collect();
        Self {
            snapshot,
            turns,
            free,
            turned_away: TurnedAway::default(),
            assigned: Vec::new(),
        }
    }

    fn run<T: AsRef<Job>>(&mut self, lanes: Lanes<'q, T>) {
        let mut aged = lanes.aged.peekable();
        let mut interactive = lanes.interactive.peekable();
        let mut batch = lanes.batch.peekable();
        loop {
            match (self.head(&mut aged), self.head(&mut interactive)) {
                (Some(a), Some(i)) => self.take_turns((&mut aged, a), (&mut interactive, i)),
                (Some(a), None) => self.start(&mut aged, a, Group::Aged),
                (None, Some(i)) => self.start(&mut interactive, i, Group::Interactive),
                (None, None) => break,
            }
        }
        while let Some(b) = self.head(&mut batch) {
            self.start(&mut batch, b, Group::Batch);
        }
    }

    /// Both could start. On one pool it goes by turns; on two pools both do, and the decision of
    /// the second is made anew so that each is made on the slots the ones before it left.
    fn take_turns<T: AsRef<Job>>(
        &mut self,
        (aged, a): (&mut Asked<'q, T>, Assignment),
        (interactive, i): (&mut Asked<'q, T>, Assignment),
    ) {
        if a.pool_id != i.pool_id {
            self.start(aged, a, Group::Aged);
            if let Some(i) = self.head(interactive) {
                self.start(interactive, i, Group::Interactive);
            }
        } else if self.turns.aged_is_next(&a.pool_id) {
            self.start(aged, a, Group::Aged);
        } else {
            self.start(interactive, i, Group::Interactive);
        }
    }

    /// The first task of a lane that can start now. Those before it cannot start any more in this
    /// round, for slots only get fewer.
    fn head<T: AsRef<Job>>(&mut self, lane: &mut Asked<'q, T>) -> Option<Assignment> {
        while !self.free.is_empty() {
            let &(ticket, payload) = lane.peek()?;
            if let Some(head) = self.place(ticket, payload.as_ref()) {
                return Some(head);
            }
            lane.next();
        }
        None
    }

    fn place(&mut self, ticket: &Ticket, job: &'q Job) -> Option<Assignment> {
        if self.turned_away.covers(job) {
            return None;
        }
        let mut free = self.free.iter().map(|i| &self.snapshot.pools[*i]);
        if !free.any(|pool| can_start_now(&job.spec, pool)) {
            self.turned_away.add(job);
            return None;
        }
        let decision = decide(&PlacementInput::new(&job.spec, self.snapshot));
        match &decision.outcome {
            Outcome::Placed { pool_id } => Some(Assignment {
                ticket: *ticket,
                pool_id: pool_id.clone(),
                decision,
            }),
            // Cannot happen after `can_start_now`; a task that is not placed keeps waiting.
            Outcome::Wait { .. } | Outcome::Refused(_) => None,
        }
    }

    fn start<T>(&mut self, lane: &mut Asked<'q, T>, head: Assignment, group: Group) {
        lane.next();
        self.turns.record(&head.pool_id, group);
        let taken = self.snapshot.take_slot(&head.pool_id);
        debug_assert!(taken.is_ok(), "a task is placed only where a slot is free");
        let pools = &self.snapshot.pools;
        self.free.retain(|i| pools[*i].has_free_slot());
        self.assigned.push(head);
    }
}

/// Requirements that no free slot fits, with the least context that did not fit.
#[derive(Default)]
struct TurnedAway<'q> {
    by_fingerprint: BTreeMap<u64, &'q Job>,
}

impl<'q> TurnedAway<'q> {
    /// More context never makes a task feasible, so a task with no less than one that was turned
    /// away need not be tried. Equal fingerprints of different requirements cost a comparison.
    fn covers(&self, job: &Job) -> bool {
        self.by_fingerprint.get(&job.fingerprint).is_some_and(|known| {
            known.spec.ctx_tokens <= job.spec.ctx_tokens && known.spec.needs == job.spec.needs
        })
    }

    fn add(&mut self, job: &'q Job) {
        self.by_fingerprint.insert(job.fingerprint, job);
    }
}
