//! One class of the queue: appended at the back, removed anywhere, counted in O(log n).
//!
//! Removal leaves a hole; when more than half the slots are holes the lane is compacted, so a
//! removal costs amortised O(log n) and a walk over the lane meets at most as many holes as tasks.

use super::rank::LiveCount;
use super::{Queued, Ticket};

/// Below this length holes cost less than moving the rest.
const COMPACT_FROM: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct Slot<T> {
    ticket: Ticket,
    /// `None` is a hole.
    payload: Option<T>,
}

/// Tasks of one class in order of arrival.
#[derive(Debug, Clone)]
pub(super) struct Lane<T> {
    /// Sorted by `seq` and, because time never runs back here, by `enqueued_at_ms`.
    slots: Vec<Slot<T>>,
    /// Every slot before it is a hole.
    head: usize,
    live: usize,
    counts: LiveCount,
}

impl<T> Lane<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            head: 0,
            live: 0,
            counts: LiveCount::default(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.live
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Appends; `ticket.seq` is larger than any before.
    pub(super) fn push(&mut self, ticket: Ticket, payload: T) {
        self.slots.push(Slot {
            ticket,
            payload: Some(payload),
        });
        self.counts.push_live();
        self.live += 1;
    }

    /// Puts a task back where it stood. Costs O(n): a task comes back only when its engine broke.
    pub(super) fn restore(&mut self, ticket: Ticket, payload: T) {
        self.slots.retain(|slot| slot.payload.is_some());
        let at = self.slots.partition_point(|slot| slot.ticket.seq < ticket.seq);
        let payload = Some(payload);
        self.slots.insert(at, Slot { ticket, payload });
        self.head = 0;
        self.live = self.slots.len();
        self.counts = LiveCount::all_live(self.live);
    }

    pub(super) fn get(&self, seq: u64) -> Option<(&Ticket, &T)> {
        let slot = &self.slots[self.find(seq)?];
        slot.payload.as_ref().map(|payload| (&slot.ticket, payload))
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Queued<T>> {
        let at = self.find(seq)?;
        self.take(at)
    }

    pub(super) fn pop_front(&mut self) -> Option<Queued<T>> {
        self.take(self.head)
    }

    /// Tasks of this lane before the one with `seq`.
    pub(super) fn rank(&self, seq: u64) -> Option<usize> {
        self.find(seq).map(|at| self.live_before(at))
    }

    /// Splits the lane where `in_front` turns false; it must hold for a prefix in order of arrival.
    pub(super) fn split(&self, in_front: impl FnMut(&Ticket) -> bool) -> Split<'_, T> {
        let mut in_front = in_front;
        let cut = self.slots.partition_point(|slot| in_front(&slot.ticket));
        let cut = cut.max(self.head);
        Split {
            front_len: self.live_before(cut),
            front: LaneIter(self.slots[self.head..cut].iter()),
            back: LaneIter(self.slots[cut..].iter()),
        }
    }

    pub(super) fn iter(&self) -> LaneIter<'_, T> {
        LaneIter(self.slots[self.head..].iter())
    }

    fn find(&self, seq: u64) -> Option<usize> {
        self.slots.binary_search_by_key(&seq, |slot| slot.ticket.seq).ok()
    }

    fn live_before(&self, at: usize) -> usize {
        self.counts.before(at) as usize
    }

    fn take(&mut self, at: usize) -> Option<Queued<T>> {
        let slot = self.slots.get_mut(at)?;
        let payload = slot.payload.take()?;
        let ticket = slot.ticket;
        self.counts.kill(at);
        self.live -= 1;
        self.skip_holes();
        self.compact();
        Some(Queued { ticket, payload })
    }

    fn skip_holes(&mut self) {
        while self
            .slots
            .get(self.head)
            .is_some_and(|slot| slot.payload.is_none())
        {
            self.head += 1;
        }
    }

    fn compact(&mut self) {
        if self.slots.len() < COMPACT_FROM || self.slots.len() <= 2 * self.live {
            return;
        }
        self.slots.retain(|slot| slot.payload.is_some());
        self.head = 0;
        self.counts = LiveCount::all_live(self.live);
    }
}

/// A lane in two parts.
pub(super) struct Split<'a, T> {
    pub(super) front_len: usize,
    pub(super) front: LaneIter<'a, T>,
    pub(super) back: LaneIter<'a, T>,
}

/// Walks a lane in order of arrival.
#[derive(Debug)]
pub(crate) struct LaneIter<'a, T>(std::slice::Iter<'a, Slot<T>>);

impl<'a, T> Iterator for LaneIter<'a, T> {
    type Item = (&'a Ticket, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        self.0
            .find_map(|slot| slot.payload.as_ref().map(|payload| (&slot.ticket, payload)))
    }
}
