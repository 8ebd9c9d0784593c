//! Decisions that were made already: many tasks that ask for the same are decided once per snapshot.
//!
//! The key is the whole job, the snapshot's version and [`POLICY_VERSION`]; [`decide`] is a function
//! of just these, so a hit is the decision that would be made (REQ-PLACEMENT-CACHE). With one pool it
//! saves next to nothing, with many it saves the walk over them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{JobSpec, POLICY_VERSION, PlacementDecision, PlacementInput, Snapshot, decide};

/// Jobs that are remembered per snapshot; more different ones at a time are not worth the memory.
const MOST_JOBS: usize = 1024;

/// Remembers decisions on the latest snapshot.
#[derive(Debug, Clone)]
pub struct DecisionCache {
    ttl_ms: u64,
    made_on: Option<(u16, u64)>,
    made: HashMap<u64, Made>,
    hits: u64,
    misses: u64,
}

#[derive(Debug, Clone)]
struct Made {
    job: JobSpec,
    decision: Arc<PlacementDecision>,
    at_ms: u64,
}

impl DecisionCache {
    /// An empty cache whose entries live so long at most.
    #[must_use]
    pub fn new(ttl_ms: u64) -> Self {
        Self {
            ttl_ms,
            made_on: None,
            made: HashMap::new(),
            hits: 0,
            misses: 0,
        }
    }

    /// As [`decide`]. `now_ms` is monotonic.
    pub fn decide(&mut self, job: &JobSpec, snapshot: &Snapshot, now_ms: u64) -> Arc<PlacementDecision> {
        let made_on = (POLICY_VERSION, snapshot.version);
        if self.made_on != Some(made_on) {
            self.made.clear();
            self.made_on = Some(made_on);
        }
        let key = key(job);
        if let Some(made) = self.made.get(&key)
            && now_ms.saturating_sub(made.at_ms) < self.ttl_ms
            && made.job == *job
        {
            self.hits += 1;
            return Arc::clone(&made.decision);
        }
        self.misses += 1;
        let decision = Arc::new(decide(&PlacementInput::new(job, snapshot)));
        self.remember(key, job, &decision, now_ms);
        decision
    }

    fn remember(&mut self, key: u64, job: &JobSpec, decision: &Arc<PlacementDecision>, now_ms: u64) {
        if self.made.len() >= MOST_JOBS {
            self.made.clear();
        }
        let made = Made {
            job: job.clone(),
            decision: Arc::clone(decision),
            at_ms: now_ms,
        };
        self.made.insert(key, made);
    }

    /// Decisions that were remembered and decisions that were made, so far.
    #[must_use]
    pub const fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits, self.misses)
    }
}

fn key(job: &JobSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    job.hash(&mut hasher);
    hasher.finish()
}
