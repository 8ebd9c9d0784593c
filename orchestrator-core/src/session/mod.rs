//! Sessions: turns, budgets, where the last turn ran, and when a session ends (REQ-SESSION-TTL).
//!
//! Pure: monotonic milliseconds come in, refusals and figures come out. [`Sessions`] is the bounded
//! table; [`budget`] the arithmetic of one session's books.

pub mod budget;
mod table;

use api_types::{PoolId, ReplicaId};

use budget::{Budgets, Ledger, Overdrawn, Prices, Used};

pub use table::{Hold, Sessions};

/// What holds for every session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// An idle session ends after this long, ms.
    pub ttl_ms: u64,
    /// Most turns.
    pub max_turns: u32,
    /// Most sessions kept, but for those with live tasks.
    pub max_sessions: usize,
    /// How long after a turn its pool is preferred, ms.
    pub affinity_ttl_ms: u64,
    /// Budgets of each session.
    pub budgets: Budgets,
    /// What tokens cost.
    pub prices: Option<Prices>,
}

/// Where a session's last turn ran, and what that left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The pool.
    pub pool_id: PoolId,
    /// The engine process,
    pub replica_id: ReplicaId,
    /// and which start of it.
    pub generation: u64,
    /// Tokens the engine had in its cache at the turn's end, as it counted them.
    pub kv_tokens: u64,
    /// When the turn ended, ms.
    pub at_ms: u64,
}

/// How a turn went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turn {
    /// What it is charged.
    pub used: Used,
    /// Whether it had a slot; one that had none is no turn.
    pub ran: bool,
    /// Where it ran, if an engine worked on it.
    pub home: Option<Home>,
}

/// A session does not admit a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has had its turns.
    Turns {
        /// How many it may have.
        limit: u32,
    },
    /// A budget has too little left.
    Budget(Overdrawn),
}

/// One session.
#[derive(Debug, Clone)]
pub struct Session {
    serial: u64,
    used_at_ms: u64,
    turns: u32,
    live: u32,
    ledger: Ledger,
    home: Option<Home>,
}

impl Session {
    /// Turns taken, those of live tasks included.
    #[must_use]
    pub const fn turns(&self) -> u32 {
        self.turns
    }

    /// Tasks that wait or run.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// Its books.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where its last turn ran.
    #[must_use]
    pub const fn home(&self) -> Option<&Home> {
        self.home.as_ref()
    }

    /// How long until it ends if nothing uses it, ms.
    #[must_use]
    pub const fn ttl_left_ms(&self, limits: &Limits, now_ms: u64) -> u64 {
        if self.live > 0 {
            return limits.ttl_ms;
        }
        limits
            .ttl_ms
            .saturating_sub(now_ms.saturating_sub(self.used_at_ms))
    }
}
