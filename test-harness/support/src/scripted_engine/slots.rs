//! Slots: how many completions run at once, and the queue of those that wait. First come, first
//! served; a request that names a slot waits for that one and gets it before anybody else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All slots of an engine.
pub(super) struct Slots {
    table: Mutex<Table>,
    count: usize,
}

struct Table {
    /// Idle slots, the one that rested longest first.
    idle: VecDeque<usize>,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    wanted: Option<usize>,
    reply: oneshot::Sender<Lease>,
}

/// A slot in use; dropping it frees the slot, whatever happened to the request.
pub(super) struct Lease {
    slots: Arc<Slots>,
    id: usize,
}

impl Lease {
    pub(super) fn id(&self) -> usize {
        self.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slots.free(self.id);
    }
}

impl Slots {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let table = Table {
            idle: (0..count).collect(),
            waiting: VecDeque::new(),
        };
        Arc::new(Self {
            table: Mutex::new(table),
            count,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many requests wait.
    pub(super) fn deferred(&self) -> usize {
        let table = self.table();
        table
            .waiting
            .iter()
            .filter(|waiter| !waiter.reply.is_closed())
            .count()
    }

    /// How many slots are in use.
    pub(super) fn busy(&self) -> usize {
        self.count - self.table().idle.len()
    }

    /// Whether this slot is in use.
    pub(super) fn is_busy(&self, id: usize) -> bool {
        !self.table().idle.contains(&id)
    }

    /// Waits for a slot: for the one wanted (numbers wrap around, as in the real server), or any.
    /// Dropping the future gives up the place in the queue.
    pub(super) async fn lease(self: &Arc<Self>, wanted: Option<usize>) -> Lease {
        let wanted = wanted.map(|id| id % self.count);
        match self.take_or_queue(wanted) {
            Ok(id) => self.leased(id),
            // The sender stays in the queue as long as this table lives, and `self` keeps it alive.
            Err(reply) => match reply.await {
                Ok(lease) => lease,
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn take_or_queue(&self, wanted: Option<usize>) -> Result<usize, oneshot::Receiver<Lease>> {
        let mut table = self.table();
        let place = match wanted {
            Some(id) => table.idle.iter().position(|idle| *idle == id),
            None => (!table.idle.is_empty()).then_some(0),
        };
        if let Some(id) = place.and_then(|place| table.idle.remove(place)) {
            return Ok(id);
        }
        let (reply, receiver) = oneshot::channel();
        table.waiting.push_back(Waiter { wanted, reply });
        Err(receiver)
    }

    fn leased(self: &Arc<Self>, id: usize) -> Lease {
        Lease {
            slots: Arc::clone(self),
            id,
        }
    }

    /// Hands the slot to the next waiter. A waiter that has gone hands it back by dropping the lease,
    /// which comes here again.
    fn free(self: &Arc<Self>, id: usize) {
        let next = self.table().next_waiter_or_idle(id);
        if let Some(waiter) = next {
            drop(waiter.reply.send(self.leased(id)));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn next_waiter_or_idle(&mut self, id: usize) -> Option<Waiter> {
        let by_name = self.waiting.iter().position(|waiter| waiter.wanted == Some(id));
        let place = by_name.or_else(|| self.waiting.iter().position(|waiter| waiter.wanted.is_none()));
        let next = place.and_then(|place| self.waiting.remove(place));
        if next.is_none() {
            self.idle.push_back(id);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, pin_mut};

    use super::*;

    #[test]
    fn waiters_are_served_in_order_and_a_named_slot_goes_to_who_named_it() {
        let slots = Slots::new(2);
        let first = slots.lease(None).now_or_never().unwrap();
        let second = slots.lease(None).now_or_never().unwrap();
        let (any, named) = (slots.lease(None), slots.lease(Some(3)));
        pin_mut!(any, named);
        assert!(any.as_mut().now_or_never().is_none());
        assert!(named.as_mut().now_or_never().is_none());
        assert_eq!(slots.deferred(), 2);
        assert_eq!(second.id(), 1);
        drop(second);
        assert!(any.as_mut().now_or_never().is_none());
        let named = named.now_or_never().unwrap();
        assert_eq!(named.id(), 1);
        drop(first);
        assert_eq!(any.now_or_never().unwrap().id(), 0);
    }

    #[test]
    fn a_waiter_that_gives_up_loses_no_slot() {
        let slots = Slots::new(1);
        let lease = slots.lease(None).now_or_never().unwrap();
        let mut waiter = Box::pin(slots.lease(None));
        assert!(waiter.as_mut().now_or_never().is_none());
        drop(waiter);
        assert_eq!(slots.deferred(), 0);
        drop(lease);
        assert_eq!(slots.busy(), 0);
        assert!(slots.lease(None).now_or_never().is_some());
    }

    #[test]
    fn a_lease_sent_to_a_waiter_that_just_left_comes_back() {
        let slots = Slots::new(1);
        let lease = slots.lease(None).now_or_never().unwrap();
        let mut waiter = Box::pin(slots.lease(None));
        assert!(waiter.as_mut().now_or_never().is_none());
        drop(lease);
        assert_eq!(slots.busy(), 1);
        drop(waiter);
        assert_eq!(slots.busy(), 0);
    }
}
