//! Walks over the waiting tasks: the three competing groups, and the one merged order.

use super::Ticket;
use super::lane::LaneIter;

/// One group of waiting tasks in order of arrival.
pub(crate) type WaitingLane<'a, T> = LaneIter<'a, T>;

/// The groups that compete for a slot.
pub(crate) struct Lanes<'a, T> {
    /// Batch tasks that have waited long enough to take turns with interactive ones.
    pub(crate) aged: WaitingLane<'a, T>,
    /// Interactive tasks.
    pub(crate) interactive: WaitingLane<'a, T>,
    /// The other batch tasks: only when nobody of the first two can use a slot.
    pub(crate) batch: WaitingLane<'a, T>,
}

/// Everybody who waits, next first; see [`super::Queue::order`].
pub struct Order<'a, T> {
    lanes: Lanes<'a, T>,
    aged_turn: bool,
}

impl<'a, T> Order<'a, T> {
    pub(super) const fn new(lanes: Lanes<'a, T>) -> Self {
        Self {
            lanes,
            aged_turn: true,
        }
    }
}

impl<'a, T> Iterator for Order<'a, T> {
    type Item = (&'a Ticket, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let Lanes {
            aged,
            interactive,
            batch,
        } = &mut self.lanes;
        let (first, second) = if self.aged_turn {
            (aged, interactive)
        } else {
            (interactive, aged)
        };
        self.aged_turn = !self.aged_turn;
        first.next().or_else(|| second.next()).or_else(|| batch.next())
    }
}
