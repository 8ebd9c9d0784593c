//! The bound per pool: each waiting task stands in the line of one pool that could serve it.
//!
//! A task that several pools could serve joins the shortest of their lines (the first by name of
//! equals), so it is refused only when the lines of all of them are full; a task that only one pool
//! could serve is bounded by that one alone, and a pile for one pool never takes the places of
//! others. The line is a place to wait, not a reservation: who gets a slot is the business of
//! [`crate::dispatch`], and whoever leaves the queue leaves the line (REQ-QUEUE-PER-POOL).

use std::collections::BTreeMap;

use api_types::{PoolId, Priority, TaskId};

use super::{RefusedBecause, Ticket};

/// Who stands in which line.
#[derive(Debug, Clone)]
pub struct Lines {
    capacity: usize,
    lines: BTreeMap<PoolId, Line>,
    places: BTreeMap<TaskId, Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    pool: PoolId,
    priority: Priority,
    seq: u64,
}

/// Tasks in order of arrival.
#[derive(Debug, Clone, Default)]
struct Line {
    interactive: BTreeMap<u64, TaskId>,
    batch: BTreeMap<u64, TaskId>,
}

impl Line {
    fn len(&self) -> usize {
        self.interactive.len() + self.batch.len()
    }

    const fn class_mut(&mut self, priority: Priority) -> &mut BTreeMap<u64, TaskId> {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }
}

impl Lines {
    /// No lines yet; `capacity` is the bound of each.
    #[must_use]
    pub const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            lines: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// The pool with the shortest line.
    pub fn shortest<'p>(&self, pools: impl IntoIterator<Item = &'p PoolId>) -> Option<&'p PoolId> {
        pools.into_iter().min_by_key(|pool| (self.len(pool), *pool))
    }

    /// Tasks in a pool's line.
    #[must_use]
    pub fn len(&self, pool: &PoolId) -> usize {
        self.lines.get(pool).map_or(0, Line::len)
    }

    /// Tasks in all lines.
    #[must_use]
    pub fn total(&self) -> usize {
        self.places.len()
    }

    /// Tasks of one class in a pool's line.
    #[must_use]
    pub fn len_of(&self, pool: &PoolId, priority: Priority) -> usize {
        let line = self.lines.get(pool);
        line.map_or(0, |line| match priority {
            Priority::Interactive => line.interactive.len(),
            Priority::Batch => line.batch.len(),
        })
    }

    /// Whether a newcomer finds no place.
    #[must_use]
    pub fn is_full(&self, pool: &PoolId) -> bool {
        self.len(pool) >= self.capacity
    }

    /// Why a newcomer is refused at a full line.
    #[must_use]
    pub fn full(&self, pool: &PoolId) -> RefusedBecause {
        RefusedBecause::LineFull {
            pool: pool.clone(),
            capacity: self.capacity,
        }
    }

    /// Whom a newcomer of this class may displace: the longest waiting task of the lowest class in
    /// the line.
    ///
    /// # Errors
    /// When everybody there is of a higher class, or nobody is there.
    pub fn victim(&self, pool: &PoolId, newcomer: Priority) -> Result<TaskId, RefusedBecause> {
        let line = self.lines.get(pool);
        let first = |class: &BTreeMap<u64, TaskId>| class.first_key_value().map(|(_, id)| *id);
        let batch = line.and_then(|line| first(&line.batch));
        let interactive = line.and_then(|line| first(&line.interactive));
        let victim = match newcomer {
            Priority::Interactive => batch.or(interactive),
            Priority::Batch => batch,
        };
        victim.ok_or_else(|| self.full(pool))
    }

    /// A task joins a line, leaving the one it may have stood in; the bound is the caller's to ask.
    pub fn join(&mut self, ticket: &Ticket, pool: &PoolId) {
        self.leave(&ticket.id);
        let line = self.lines.entry(pool.clone()).or_default();
        line.class_mut(ticket.priority).insert(ticket.seq, ticket.id);
        let place = Place {
            pool: pool.clone(),
            priority: ticket.priority,
            seq: ticket.seq,
        };
        self.places.insert(ticket.id, place);
    }

    /// A task leaves its line, if it stands in one.
    pub fn leave(&mut self, id: &TaskId) {
        let Some(place) = self.places.remove(id) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(&place.pool) {
            line.class_mut(place.priority).remove(&place.seq);
            if line.len() == 0 {
                self.lines.remove(&place.pool);
            }
        }
    }

    /// The pool in whose line a task stands.
    #[must_use]
    pub fn line_of(&self, id: &TaskId) -> Option<&PoolId> {
        self.places.get(id).map(|place| &place.pool)
    }

    /// The pools with a line.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        self.lines.keys()
    }
}
