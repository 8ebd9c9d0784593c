//! The report: what the engine was asked and what became of it. Bounded by the script's
//! `keep_requests`; times are microseconds since the engine's start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::http::Request;

/// What the engine saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The last requests, oldest first.
    pub requests: Vec<RequestRecord>,
    /// Requests ever made, remembered or not.
    pub requests_total: u64,
    /// Supervisors' probes, ever; they are not requests.
    pub probes_total: u64,
    /// Token frames written to clients, ever.
    pub tokens_written_total: u64,
    /// Completions that hold a slot now.
    pub active: u32,
    /// The largest number that ever held a slot at once.
    pub active_high_water: u32,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Counts from 0.
    pub id: u64,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields, names in lower case; of repeated ones the last.
    pub headers: BTreeMap<String, String>,
    /// The body, when it is JSON.
    pub body: Option<Value>,
    /// When the request was read.
    pub received_us: u64,
    /// When it got a slot.
    pub slot_us: Option<u64>,
    /// When the client's disconnect was noticed.
    pub client_gone_us: Option<u64>,
    /// When the engine was done with it.
    pub ended_us: Option<u64>,
    /// Token frames written.
    pub tokens_written: u32,
    /// What became of it.
    pub end: End,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It is being worked on.
    #[default]
    Open,
    /// It was answered, with this HTTP status.
    Answered(u16),
    /// The client closed the connection (or its writing half) before the end.
    ClientGone,
    /// The script's fault of this name ended it.
    Fault(String),
}

/// Collects the report.
pub(super) struct Recorder {
    started: Instant,
    keep: usize,
    tokens: AtomicU64,
    probes: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    total: u64,
    active: u32,
    active_high_water: u32,
    entries: VecDeque<(RequestRecord, Arc<AtomicU32>)>,
}

/// One request's line in the report.
pub(super) struct Entry<'a> {
    recorder: &'a Recorder,
    id: u64,
    tokens: Arc<AtomicU32>,
    holds_slot: bool,
}

impl Recorder {
    pub(super) fn new(started: Instant, keep: usize) -> Self {
        Self {
            started,
            keep,
            tokens: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            table: Mutex::default(),
        }
    }

    /// Notes a supervisor's probe.
    pub(super) fn probed(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a request.
    pub(super) fn begin(&self, request: &Request) -> Entry<'_> {
        let received_us = self.now_us();
        let tokens = Arc::new(AtomicU32::new(0));
        let mut table = self.table();
        let id = table.total;
        table.total += 1;
        if table.entries.len() >= self.keep {
            table.entries.pop_front();
        }
        if self.keep > 0 {
            table
                .entries
                .push_back((record(id, request, received_us), Arc::clone(&tokens)));
        }
        drop(table);
        Entry {
            recorder: self,
            id,
            tokens,
            holds_slot: false,
        }
    }

    /// The report as of now.
    pub(super) fn report(&self) -> Report {
        let table = self.table();
        let with_tokens = |(record, tokens): &(RequestRecord, Arc<AtomicU32>)| RequestRecord {
            tokens_written: tokens.load(Ordering::Relaxed),
            ..record.clone()
        };
        Report {
            requests: table.entries.iter().map(with_tokens).collect(),
            requests_total: table.total,
            probes_total: self.probes.load(Ordering::Relaxed),
            tokens_written_total: self.tokens.load(Ordering::Relaxed),
            active: table.active,
            active_high_water: table.active_high_water,
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry<'_> {
    /// Its number, which is the dialect's task id too.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// It got a slot.
    pub(super) fn got_slot(&mut self) {
        self.holds_slot = true;
        let now = self.recorder.now_us();
        let mut table = self.recorder.table();
        table.active += 1;
        table.active_high_water = table.active_high_water.max(table.active);
        table.change(self.id, |record| record.slot_us = Some(now));
    }

    /// Token frames went to the client.
    pub(super) fn wrote_tokens(&self, count: u32) {
        self.tokens.fetch_add(count, Ordering::Relaxed);
        self.recorder
            .tokens
            .fetch_add(u64::from(count), Ordering::Relaxed);
    }

    /// The engine is done with it.
    pub(super) fn end(self, end: End) {
        let now = self.recorder.now_us();
        let mut table = self.recorder.table();
        table.change(self.id, |record| {
            record.ended_us = Some(now);
            record.client_gone_us = (end == End::ClientGone).then_some(now);
            record.end = end;
        });
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.holds_slot {
            self.recorder.table().active -= 1;
        }
    }
}

impl Table {
    /// Changes a record, if it is still remembered. Ids are consecutive, so its place is known.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut RequestRecord)) {
        let first = self.entries.front().map_or(id, |(record, _)| record.id);
        let place = id
            .checked_sub(first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some((record, _)) = place.and_then(|place| self.entries.get_mut(place)) {
            change(record);
        }
    }
}

fn record(id: u64, request: &Request, received_us: u64) -> RequestRecord {
    RequestRecord {
        id,
        method: request.method.clone(),
        target: request.target.clone(),
        headers: request.headers.iter().cloned().collect(),
        body: serde_json::from_slice(&request.body).ok(),
        received_us,
        slot_us: None,
        client_gone_us: None,
        ended_us: None,
        tokens_written: 0,
        end: End::Open,
    }
}
