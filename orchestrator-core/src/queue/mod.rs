//! The waiting line: bounded, two classes, first in first out inside a class (ORCH-3250).
//!
//! # Order (ORCH-3253)
//! Interactive tasks go before batch tasks. A batch task that has waited `batch_max_wait_ms` is
//! *aged*; aged batch tasks and interactive tasks take turns, an aged one first. Were aged tasks
//! simply put in front, a night's pile of batch work would all be aged by the morning and every
//! chat would wait behind the whole pile; were they not put forward at all, steady chat traffic
//! would starve them. Taking turns bounds both waits:
//!
//! - A batch task that is aged and has `k` batch tasks ahead of it gets a slot of a pool that can
//!   serve it no later than that pool's `(2k + 2)`-th assignment from then on, whatever arrives.
//! - An interactive task with `k` interactive tasks ahead of it gets a slot of a pool that can
//!   serve it no later than that pool's `(2k + 2)`-th assignment, however large the aged pile.
//!
//! A task put back by [`Queue::restore`] counts among those ahead of the ones behind it.
//!
//! The turn is kept per pool, because only tasks that want the same pool compete: see
//! [`crate::dispatch`], which also holds the proof. [`Queue::order`] and [`Queue::position`] show
//! the one order clients see, in which the next turn is the aged task's; on a pool whose last slot
//! went to an aged task the interactive one is first, so a position is exact or one too high.
//!
//! # Costs
//! Push, remove and position are O(log n) (removal amortised); a walk allocates nothing.

mod lane;
mod lines;
mod order;
mod rank;

use std::collections::BTreeMap;

use api_types::{PolicyLabel, PoolId, Priority, TaskId};
use serde::{Deserialize, Serialize};

use lane::Lane;
pub use lines::Lines;
pub use order::Order;
pub(crate) use order::{Lanes, WaitingLane};

/// What a full queue does with a newcomer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullPolicy {
    /// Refuses it.
    #[default]
    Reject,
    /// Drops the longest waiting task of the lowest class present. A newcomer of a lower class
    /// than everything that waits is refused.
    DropLru,
}

impl FullPolicy {
    /// The label of its refusals in errors and metrics.
    #[must_use]
    pub const fn label(self) -> PolicyLabel {
        match self {
            Self::Reject => PolicyLabel::Reject,
            Self::DropLru => PolicyLabel::DropLru,
        }
    }
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueConfig {
    /// Most waiting tasks a newcomer may join, both classes together. 0 refuses every task.
    pub capacity: usize,
    /// What a full queue does.
    pub full_policy: FullPolicy,
    /// After waiting this long a batch task takes turns with interactive ones, ms. 0 lets both
    /// classes take turns from the start.
    pub batch_max_wait_ms: u64,
}

/// Who waits, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The task.
    pub id: TaskId,
    /// Its class.
    pub priority: Priority,
    /// When it came, monotonic ms. Never less than that of a task that came before.
    pub enqueued_at_ms: u64,
    /// Its place in the order of arrival over both classes.
    pub seq: u64,
}

/// A task taken out of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued<T> {
    /// Who waited.
    pub ticket: Ticket,
    /// What the caller stored with it.
    pub payload: T,
}

/// What became of a newcomer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused payload and an evicted task are handed back here"]
pub enum Admission<T> {
    /// It waits.
    Admitted {
        /// Tasks ahead; 0 = next.
        position: usize,
    },
    /// It waits, in the place of another task, which needs its terminal event.
    AdmittedByEvicting {
        /// Tasks ahead; 0 = next.
        position: usize,
        /// The task that was dropped.
        evicted: Queued<T>,
    },
    /// It does not wait.
    Refused {
        /// What was to be stored.
        payload: T,
        /// Why.
        reason: RefusedBecause,
    },
}

/// Why a newcomer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBecause {
    /// The queue is full.
    #[error("the queue is full with {capacity} tasks")]
    Full {
        /// Its bound.
        capacity: usize,
    },
    /// The queue is full of tasks of a higher class, which are not dropped for a lower one.
    #[error("the queue is full with {capacity} tasks of a higher class")]
    Outranked {
        /// Its bound.
        capacity: usize,
    },
    /// The line of every pool that could serve the task is full; the shortest is named.
    #[error("the line of pool {pool} is full with {capacity} tasks")]
    LineFull {
        /// The pool.
        pool: PoolId,
        /// The bound of its line.
        capacity: usize,
    },
    /// A task with this id already waits.
    #[error("the task already waits")]
    Duplicate,
}

/// The waiting line. `T` is whatever the caller needs when the task's turn comes.
#[derive(Debug, Clone)]
pub struct Queue<T> {
    config: QueueConfig,
    interactive: Lane<T>,
    batch: Lane<T>,
    index: BTreeMap<TaskId, (Priority, u64)>,
    next_seq: u64,
    latest_ms: u64,
}

impl<T> Queue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        Self {
            config,
            interactive: Lane::new(),
            batch: Lane::new(),
            index: BTreeMap::new(),
            next_seq: 0,
            latest_ms: 0,
        }
    }

    /// Its bounds.
    #[must_use]
    pub const fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Waiting tasks.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waiting tasks of one class.
    #[must_use]
    pub const fn len_of(&self, priority: Priority) -> usize {
        self.lane(priority).len()
    }

    /// Lets a task wait, if there is or can be made a place for it. `now_ms` is monotonic; a value
    /// below an earlier one counts as that earlier one.
    pub fn push(&mut self, id: TaskId, priority: Priority, now_ms: u64, payload: T) -> Admission<T> {
        if self.index.contains_key(&id) {
            let reason = RefusedBecause::Duplicate;
            return Admission::Refused { payload, reason };
        }
        let evicted = match self.make_room(priority) {
            Ok(evicted) => evicted,
            Err(reason) => return Admission::Refused { payload, reason },
        };
        let ticket = self.issue_ticket(id, priority, now_ms);
        self.index.insert(id, (priority, ticket.seq));
        self.lane_mut(priority).push(ticket, payload);
        let rank = self.lane(priority).len() - 1;
        let position = self.merged_position(priority, rank, now_ms);
        match evicted {
            None => Admission::Admitted { position },
            Some(evicted) => Admission::AdmittedByEvicting { position, evicted },
        }
    }

    /// Puts a task that was taken out back to where it stood, at O(n). It was admitted once, so it
    /// is not refused now: the bound may be exceeded by as many tasks as were dispatched and came
    /// back. A task that waits already is left alone.
    pub fn restore(&mut self, ticket: Ticket, payload: T) {
        if self.index.contains_key(&ticket.id) {
            return;
        }
        self.count_on_from(ticket.seq);
        self.latest_ms = self.latest_ms.max(ticket.enqueued_at_ms);
        self.index.insert(ticket.id, (ticket.priority, ticket.seq));
        self.lane_mut(ticket.priority).restore(ticket, payload);
    }

    /// Numbers of arrival up to this one were given in an earlier life of the queue, also to tasks that wait no more.
    pub fn count_on_from(&mut self, seq: u64) {
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
    }

    /// Takes a task out, wherever it stands.
    pub fn remove(&mut self, id: &TaskId) -> Option<Queued<T>> {
        let (priority, seq) = self.index.remove(id)?;
        self.lane_mut(priority).remove(seq)
    }

    /// Looks at a waiting task.
    #[must_use]
    pub fn get(&self, id: &TaskId) -> Option<(&Ticket, &T)> {
        let (priority, seq) = *self.index.get(id)?;
        self.lane(priority).get(seq)
    }

    /// Tasks ahead of this one in [`Queue::order`]; `None` if it does not wait.
    #[must_use]
    pub fn position(&self, id: &TaskId, now_ms: u64) -> Option<usize> {
        let (priority, seq) = *self.index.get(id)?;
        let rank = self.lane(priority).rank(seq)?;
        Some(self.merged_position(priority, rank, now_ms))
    }

    /// Everybody who waits, next first.
    #[must_use]
    pub fn order(&self, now_ms: u64) -> Order<'_, T> {
        Order::new(self.lanes(now_ms))
    }

    /// The three groups that compete, each first in first out.
    pub(crate) fn lanes(&self, now_ms: u64) -> Lanes<'_, T> {
        let batch = self.batch.split(|ticket| self.is_aged(ticket, now_ms));
        Lanes {
            aged: batch.front,
            interactive: self.interactive.iter(),
            batch: batch.back,
        }
    }

    fn make_room(&mut self, newcomer: Priority) -> Result<Option<Queued<T>>, RefusedBecause> {
        let capacity = self.config.capacity;
        if self.len() < capacity {
            return Ok(None);
        }
        if self.config.full_policy == FullPolicy::Reject || self.is_empty() {
            return Err(RefusedBecause::Full { capacity });
        }
        let lowest = if self.batch.is_empty() {
            Priority::Interactive
        } else {
            Priority::Batch
        };
        // `Priority` is declared from the highest class to the lowest.
        if newcomer > lowest {
            return Err(RefusedBecause::Outranked { capacity });
        }
        let evicted = self.lane_mut(lowest).pop_front();
        if let Some(evicted) = &evicted {
            self.index.remove(&evicted.ticket.id);
        }
        Ok(evicted)
    }

    fn issue_ticket(&mut self, id: TaskId, priority: Priority, now_ms: u64) -> Ticket {
        self.latest_ms = self.latest_ms.max(now_ms);
        let seq = self.next_seq;
        self.next_seq += 1;
        Ticket {
            id,
            priority,
            enqueued_at_ms: self.latest_ms,
            seq,
        }
    }

    /// Where the task with `rank` tasks of its own class before it stands in [`Queue::order`].
    fn merged_position(&self, priority: Priority, rank: usize, now_ms: u64) -> usize {
        let aged = self.batch.split(|ticket| self.is_aged(ticket, now_ms)).front_len;
        let interactive = self.interactive.len();
        match priority {
            Priority::Interactive => rank + aged.min(rank + 1),
            Priority::Batch if rank < aged => rank + interactive.min(rank),
            Priority::Batch => rank + interactive,
        }
    }

    const fn is_aged(&self, ticket: &Ticket, now_ms: u64) -> bool {
        now_ms.saturating_sub(ticket.enqueued_at_ms) >= self.config.batch_max_wait_ms
    }

    const fn lane(&self, priority: Priority) -> &Lane<T> {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }

    const fn lane_mut(&mut self, priority: Priority) -> &mut Lane<T> {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }
}
