//! The outlook of every waiting task, and of the next newcomer.

use std::collections::BTreeMap;
use std::iter::{Chain, Peekable};

use api_types::{PlacementOverrides, Priority, TaskId};

use super::forecast::{Asked, Forecast, PoolSlots, most_tasks};
use super::model::Measured;
use super::outlook::Outlook;
use super::service::Demand;
use crate::dispatch::Job;
use crate::policy::{JobSpec, PoolView, Readiness, Snapshot, could_serve};
use crate::queue::{Queue, Ticket, WaitingLane};

/// A task as the board needs it besides its requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its size as far as known.
    pub demand: Demand,
    /// When it must have ended, on the board's clock.
    pub deadline_at_ms: Option<u64>,
}

/// All outlooks at one moment. Later newcomers are added to it; anything else needs a new one.
#[derive(Debug, Clone)]
pub struct Board {
    outlooks: BTreeMap<TaskId, Outlook>,
    views: Vec<PoolView>,
    /// After the tasks that go before the next interactive newcomer.
    interactive: Forecast,
    /// After every task.
    batch: Forecast,
    played: usize,
    /// Tasks that are played at most.
    most: usize,
    batch_max_wait_ms: u64,
}

impl Board {
    /// Plays the whole queue. `slots` tells the slots of each pool of the snapshot; `size` what is
    /// known of each task.
    #[must_use]
    pub fn new<'s, T: AsRef<Job>>(
        measured: &Measured,
        snapshot: &'s Snapshot,
        slots: impl Fn(&'s PoolView) -> PoolSlots<'s>,
        queue: &Queue<T>,
        size: impl Fn(&TaskId) -> Option<Size>,
        now_ms: u64,
    ) -> Self {
        let most = most_tasks(snapshot.pools.len());
        let tasks = queue.len().min(most);
        let mut forecast = Forecast::new(measured, now_ms, snapshot.pools.iter().map(slots), tasks);
        let mut board = Self {
            outlooks: BTreeMap::new(),
            views: snapshot.pools.clone(),
            interactive: forecast.clone(),
            batch: forecast.clone(),
            played: 0,
            most,
            batch_max_wait_ms: queue.config().batch_max_wait_ms,
        };
        let mut feasible = Feasible::default();
        let mut turns = AgeingOrder::new(queue, now_ms);
        let mut interactive_done = false;
        for _ in 0..most {
            let Some((ticket, job)) = turns.next(&forecast) else {
                break;
            };
            if !interactive_done && turns.interactive_is_done(ticket.priority) {
                interactive_done = true;
                board.interactive = forecast.clone();
            }
            if let Some(size) = size(&ticket.id) {
                let pools = feasible.pools(job.as_ref(), &board.views);
                let aged_at = ticket.enqueued_at_ms.saturating_add(board.batch_max_wait_ms);
                let outlook = forecast.place(measured, &size.on(pools, aged_at));
                board.outlooks.insert(ticket.id, outlook);
            }
        }
        board.played = queue.len();
        if !interactive_done {
            board.interactive = forecast.clone();
        }
        board.batch = forecast;
        board
    }

    /// When a waiting task starts and ends.
    #[must_use]
    pub fn outlook(&self, id: &TaskId) -> Option<Outlook> {
        self.outlooks.get(id).copied()
    }

    /// When a task would start and end if it came now; `None` behind more tasks than are played.
    #[must_use]
    pub fn newcomer(&self, measured: &Measured, spec: &JobSpec, size: &Size, now_ms: u64) -> Option<Outlook> {
        if self.played >= self.most {
            return None;
        }
        let pools = feasible_pools(spec, &self.views);
        let asked = size.on(&pools, now_ms.saturating_add(self.batch_max_wait_ms));
        let mut forecast = match size.demand.class {
            Priority::Interactive => self.interactive.clone(),
            Priority::Batch => self.batch.clone(),
        };
        Some(forecast.place(measured, &asked))
    }

    /// A newcomer has joined the queue.
    pub fn join(&mut self, measured: &Measured, id: TaskId, spec: &JobSpec, size: &Size, now_ms: u64) {
        self.played += 1;
        if self.played > self.most {
            return;
        }
        let pools = feasible_pools(spec, &self.views);
        let asked = size.on(&pools, now_ms.saturating_add(self.batch_max_wait_ms));
        let behind_all = self.batch.place(measured, &asked);
        let outlook = match size.demand.class {
            Priority::Interactive => self.interactive.place(measured, &asked),
            Priority::Batch => behind_all,
        };
        self.outlooks.insert(id, outlook);
    }
}

/// The order in which waiting tasks will be taken: as [`Queue::order`], but batch tasks also take
/// turns that will be aged only by then.
struct AgeingOrder<'q, T> {
    interactive: Peekable<WaitingLane<'q, T>>,
    batch: Peekable<Chain<WaitingLane<'q, T>, WaitingLane<'q, T>>>,
    max_wait_ms: u64,
    batch_turn: bool,
}

impl<'q, T> AgeingOrder<'q, T> {
    fn new(queue: &'q Queue<T>, now_ms: u64) -> Self {
        let lanes = queue.lanes(now_ms);
        Self {
            interactive: lanes.interactive.peekable(),
            batch: lanes.aged.chain(lanes.batch).peekable(),
            max_wait_ms: queue.config().batch_max_wait_ms,
            batch_turn: true,
        }
    }

    fn next(&mut self, forecast: &Forecast) -> Option<(&'q Ticket, &'q T)> {
        let both = self.interactive.peek().is_some();
        let head = self.batch.peek().map(|(ticket, _)| ticket.enqueued_at_ms);
        let Some(since) = head.filter(|_| both) else {
            return self.interactive.next().or_else(|| self.batch.next());
        };
        let aged = since.saturating_add(self.max_wait_ms) <= forecast.next_start_ms();
        let batch_first = aged && self.batch_turn;
        self.batch_turn = !batch_first;
        if batch_first {
            self.batch.next()
        } else {
            self.interactive.next()
        }
    }

    /// Whether nobody interactive is left, now that a task of this class was given out.
    fn interactive_is_done(&mut self, given: Priority) -> bool {
        given == Priority::Batch && self.interactive.peek().is_none()
    }
}

impl Size {
    const fn on<'a>(&'a self, pools: &'a [usize], aged_at_ms: u64) -> Asked<'a> {
        Asked {
            demand: &self.demand,
            deadline_at_ms: self.deadline_at_ms,
            aged_at_ms,
            pools,
        }
    }
}

/// Feasible pools of equal requirements, computed once.
#[derive(Default)]
struct Feasible {
    known: BTreeMap<u64, (JobSpec, Vec<usize>)>,
}

impl Feasible {
    fn pools(&mut self, job: &Job, views: &[PoolView]) -> &[usize] {
        let spec = job.spec();
        let (known, pools) = self
            .known
            .entry(job.fingerprint())
            .or_insert_with(|| (spec.clone(), feasible_pools(spec, views)));
        if known.needs != spec.needs || known.ctx_tokens != spec.ctx_tokens {
            *pools = feasible_pools(spec, views);
            known.clone_from(spec);
        }
        pools
    }
}

/// Indexes of the pools that serve a task or will, in the order in which the policy takes them when
/// all are free.
fn feasible_pools(spec: &JobSpec, views: &[PoolView]) -> Vec<usize> {
    let works = |view: &PoolView| matches!(view.readiness, Readiness::Ready | Readiness::Starting);
    let mut pools: Vec<usize> = (0..views.len())
        .filter(|&pool| works(&views[pool]) && views[pool].serves(&spec.needs.model_ref))
        .filter(|&pool| could_serve(spec, &views[pool]))
        .collect();
    let placement = &spec.needs.placement;
    pools.sort_by_key(|&pool| preference(placement, &views[pool]));
    pools
}

/// Preferred ones first, avoided ones last, then unmeasured ones, then the fastest.
fn preference(placement: &PlacementOverrides, view: &PoolView) -> (usize, u64) {
    let preferred = placement
        .prefer_pools
        .iter()
        .position(|pool| pool == &view.pool_id);
    let named = if placement.avoid_pools.contains(&view.pool_id) {
        usize::MAX
    } else {
        preferred.unwrap_or(usize::MAX - 1)
    };
    (named, view.decode_mtps.map_or(0, |mtps| u64::MAX - mtps))
}
