//! Event sets: who waits for which events of which GPU, and which event comes next. Touches nothing
//! outside its table.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Status;
use crate::ffi::Handle;
use crate::spec::{Driver, Event};

static SETS: Mutex<Sets> = Mutex::new(Sets {
    next: 0,
    open: BTreeMap::new(),
});

struct Sets {
    next: usize,
    open: BTreeMap<usize, EventSet>,
}

#[derive(Default)]
struct EventSet {
    /// Id of the last event that was delivered, or that happened before the set was created.
    seen: u64,
    /// Event bits wanted, by GPU.
    wanted: BTreeMap<String, u64>,
}

fn sets() -> MutexGuard<'static, Sets> {
    SETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new set, blind to everything that has happened so far.
pub(crate) fn create(driver: &Driver) -> Handle {
    let mut sets = sets();
    let index = sets.next;
    sets.next += 1;
    let seen = driver.events.iter().map(|event| event.id).max().unwrap_or(0);
    sets.open.insert(
        index,
        EventSet {
            seen,
            ..EventSet::default()
        },
    );
    Handle::of(index)
}

/// Adds the event bits of one GPU to the set.
pub(crate) fn register(set: Handle, uuid: &str, bits: u64) -> Result<(), Status> {
    with_set(set, |set| *set.wanted.entry(uuid.to_owned()).or_default() |= bits)
}

/// The next undelivered event that the set wants.
pub(crate) fn take_next(set: Handle, driver: &Driver) -> Result<Option<Event>, Status> {
    with_set(set, |set| {
        let next = driver.events.iter().find(|event| set.wants(event))?.clone();
        set.seen = next.id;
        Some(next)
    })
}

/// Forgets the set.
pub(crate) fn free(set: Handle) -> Result<(), Status> {
    let index = set.index().ok_or(Status::InvalidArgument)?;
    sets()
        .open
        .remove(&index)
        .map(drop)
        .ok_or(Status::InvalidArgument)
}

fn with_set<T>(set: Handle, act: impl FnOnce(&mut EventSet) -> T) -> Result<T, Status> {
    let index = set.index().ok_or(Status::InvalidArgument)?;
    sets()
        .open
        .get_mut(&index)
        .map(act)
        .ok_or(Status::InvalidArgument)
}

impl EventSet {
    fn wants(&self, event: &Event) -> bool {
        let bits = self.wanted.get(&event.gpu_uuid).copied().unwrap_or(0);
        event.id > self.seen && bits & event.kind.bit() != 0
    }
}
