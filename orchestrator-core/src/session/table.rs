//! The bounded table of sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::{Ask, Grant, Ledger};
use super::{Home, Limits, Refusal, Session, Turn};

/// What a live task of a session holds. Settled exactly once: it cannot be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Hold<K> {
    key: K,
    serial: u64,
    grant: Grant,
}

impl<K> Hold<K> {
    /// The session.
    #[must_use]
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// What the task may use.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// Sessions by key. Idle ones are also known by when they were last used.
#[derive(Debug)]
pub struct Sessions<K> {
    limits: Limits,
    sessions: BTreeMap<K, Session>,
    idle: BTreeSet<(u64, K)>,
    /// Tells a session from an earlier one of the same key.
    serial: u64,
}

impl<K: Ord + Clone> Sessions<K> {
    /// No sessions.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            idle: BTreeSet::new(),
            serial: 0,
        }
    }

    /// What holds for every session.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sessions in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// A session that has not ended.
    #[must_use]
    pub fn get(&self, key: &K, now_ms: u64) -> Option<&Session> {
        let session = self.sessions.get(key)?;
        (session.ttl_left_ms(&self.limits, now_ms) > 0).then_some(session)
    }

    /// Where the next turn should go if it has a choice: where the last one ran, not too long ago.
    #[must_use]
    pub fn home(&self, key: &K, now_ms: u64) -> Option<&Home> {
        let home = self.get(key, now_ms)?.home()?;
        (now_ms.saturating_sub(home.at_ms) < self.limits.affinity_ttl_ms).then_some(home)
    }

    /// Admits a task to a session, which its first task makes. A refused task changes nothing.
    ///
    /// # Errors
    /// The turn limit or a budget.
    pub fn admit(&mut self, key: &K, ask: &Ask, now_ms: u64) -> Result<Hold<K>, Refusal> {
        self.sweep(now_ms);
        let known = self.sessions.get(key);
        if known.is_some_and(|session| session.turns >= self.limits.max_turns) {
            return Err(Refusal::Turns {
                limit: self.limits.max_turns,
            });
        }
        let mut ledger = known.map_or_else(Ledger::default, |session| session.ledger);
        let grant = ledger
            .hold(ask, &self.limits.budgets, self.limits.prices.as_ref())
            .map_err(Refusal::Budget)?;
        if known.is_none() {
            self.open(key, now_ms);
        }
        let serial = self.serial;
        let serial = self.sessions.get_mut(key).map_or(serial, |session| {
            self.idle.remove(&(session.used_at_ms, key.clone()));
            session.ledger = ledger;
            session.turns = session.turns.saturating_add(1);
            session.live = session.live.saturating_add(1);
            session.used_at_ms = now_ms;
            session.serial
        });
        Ok(Hold {
            key: key.clone(),
            serial,
            grant,
        })
    }

    /// A task of a session has ended, or never got into the queue. A session that is gone meanwhile, or that is a
    /// new one of the same key, is left alone.
    pub fn settle(&mut self, hold: &Hold<K>, turn: Turn, now_ms: u64) {
        let Some(session) = self
            .sessions
            .get_mut(&hold.key)
            .filter(|session| session.serial == hold.serial)
        else {
            return;
        };
        session
            .ledger
            .settle(&hold.grant, &turn.used, self.limits.prices.as_ref());
        session.live = session.live.saturating_sub(1);
        session.used_at_ms = now_ms;
        if !turn.ran {
            session.turns = session.turns.saturating_sub(1);
        }
        if turn.home.is_some() {
            session.home = turn.home;
        }
        if session.live == 0 {
            self.idle.insert((now_ms, hold.key.clone()));
            self.make_room(self.limits.max_sessions);
        }
    }

    /// Ends a session; `false` when there is none. Its live tasks go on.
    pub fn end(&mut self, key: &K, now_ms: u64) -> bool {
        self.sweep(now_ms);
        let ended = self.sessions.remove(key);
        if let Some(session) = &ended {
            self.idle.remove(&(session.used_at_ms, key.clone()));
        }
        ended.is_some()
    }

    /// Forgets idle sessions whose time has passed.
    pub fn sweep(&mut self, now_ms: u64) {
        while let Some((used_at_ms, _)) = self.idle.first()
            && now_ms.saturating_sub(*used_at_ms) >= self.limits.ttl_ms
        {
            self.forget_idlest();
        }
    }

    fn open(&mut self, key: &K, now_ms: u64) {
        self.make_room(self.limits.max_sessions.saturating_sub(1));
        self.serial += 1;
        let session = Session {
            serial: self.serial,
            used_at_ms: now_ms,
            turns: 0,
            live: 0,
            ledger: Ledger::default(),
            home: None,
        };
        self.sessions.insert(key.clone(), session);
    }

    /// Forgets idle sessions until no more than `most` are left; those with live tasks stay.
    fn make_room(&mut self, most: usize) {
        while self.sessions.len() > most && !self.idle.is_empty() {
            self.forget_idlest();
        }
    }

    fn forget_idlest(&mut self) {
        if let Some((_, key)) = self.idle.pop_first() {
            self.sessions.remove(&key);
        }
    }
}
