//! Which engine process answers for a replica now. Read by every submit, without a lock; written by pool reports.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use api_types::{PoolId, ReplicaId};
use arc_swap::ArcSwap;

use crate::error::BindError;
use crate::replica::Replica;

/// A replica of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The pool.
    pub pool: PoolId,
    /// The replica.
    pub replica: ReplicaId,
}

impl Target {
    /// The replica of this pool.
    #[must_use]
    pub const fn new(pool: PoolId, replica: ReplicaId) -> Self {
        Self { pool, replica }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.replica)
    }
}

/// What a bind did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The replica was not bound before.
    New,
    /// Another engine process, or another address, answers from now on. Streams of the old one go on.
    Rebound,
    /// The same report as before: nothing changed, breaker and cached props included.
    Unchanged,
}

/// What an unbind did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbound {
    /// Nobody answers for the replica from now on. Its streams go on.
    Removed,
    /// Nobody did before.
    NotBound,
}

type Bindings = HashMap<Target, Arc<Replica>>;

/// The bindings. A reader sees all of a change or nothing of it.
#[derive(Default)]
pub(crate) struct Registry {
    bindings: ArcSwap<Bindings>,
}

impl Registry {
    pub(crate) fn get(&self, target: &Target) -> Option<Arc<Replica>> {
        self.bindings.load().get(target).cloned()
    }

    /// Every binding, by target.
    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        let mut all: Vec<_> = self.bindings.load().values().cloned().collect();
        all.sort_by(|a, b| a.target.cmp(&b.target));
        all
    }

    /// Binds unless a newer generation is bound, or exactly this one.
    pub(crate) fn bind(&self, replica: Replica) -> Result<Bound, BindError> {
        let replica = Arc::new(replica);
        let mut outcome = Ok(Bound::New);
        // Runs again when another report came in between: what counts is the last run.
        self.bindings.rcu(|now| {
            outcome = judge(now.get(&replica.target), &replica);
            match outcome {
                Ok(Bound::New | Bound::Rebound) => {
                    let mut next = Bindings::clone(now);
                    next.insert(replica.target.clone(), Arc::clone(&replica));
                    Arc::new(next)
                }
                Ok(Bound::Unchanged) | Err(_) => Arc::clone(now),
            }
        });
        outcome
    }

    pub(crate) fn unbind(&self, target: &Target) -> Unbound {
        let before = self.bindings.rcu(|now| {
            let mut next = Bindings::clone(now);
            next.remove(target);
            next
        });
        if before.contains_key(target) {
            Unbound::Removed
        } else {
            Unbound::NotBound
        }
    }
}

fn judge(bound: Option<&Arc<Replica>>, given: &Replica) -> Result<Bound, BindError> {
    match bound {
        None => Ok(Bound::New),
        Some(bound) if bound.generation > given.generation => Err(BindError::Stale {
            target: given.target.clone(),
            given: given.generation,
            bound: bound.generation,
        }),
        Some(bound) if bound.generation == given.generation && bound.spec == given.spec => {
            Ok(Bound::Unchanged)
        }
        Some(_) => Ok(Bound::Rebound),
    }
}
