//! The steps of an operation. One step at a time from what is seen; [`Rollout::advance`] takes as many as are due.

use api_types::operation::{DesiredPool, ModelChoice, OperationKind, OperationPhase, OperationState};
use api_types::pool::UnreadyCause;

use super::{Before, FailedLoad, Operation, Retiring, Rollout, Side};
use crate::trouble::{Unready, needs_a_person};

/// What is seen of one side's engines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideView {
    /// None of its replicas has a process, or is about to have one.
    pub stopped: bool,
    /// Every replica serves.
    pub ready: bool,
    /// Why a replica does not serve, where that is more than a matter of time.
    pub failure: Option<Unready>,
    /// Why no replica can be started yet; may pass.
    pub blocked: Option<Unready>,
    /// Every replica is given up, at the latest try.
    pub given_up: bool,
    /// Tasks that run there, as the orchestrator tells; `None` when it has not told since the side takes no new work.
    pub leases: Option<u32>,
}

/// What is seen at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// The engines, A first.
    pub sides: [SideView; 2],
    /// Whether the model of the running operation could be started if there were room.
    pub candidate: Result<(), Unready>,
    /// Whether there is room for it beside what runs.
    pub room_beside: Result<(), Unready>,
    /// How long a start may be held up by what may pass, ms.
    pub patience_ms: u64,
    /// How long a model that could not be loaded is not loaded for the sake of a task, ms.
    pub retry_after_ms: u64,
}

impl World {
    const fn side(&self, side: Side) -> &SideView {
        &self.sides[side.index()]
    }
}

impl Operation {
    fn new(desired: &DesiredPool, model: Option<ModelChoice>, before: Before) -> Self {
        Self {
            id: desired.operation_id,
            generation: desired.generation,
            kind: desired.kind,
            model,
            deadline_ms: desired.deadline_ms,
            state: OperationState::Running,
            reason: None,
            before,
        }
    }

    /// This one, after the configuration has changed under it.
    pub(super) fn void(mut self) -> Self {
        if self.state == OperationState::Running {
            self.state = OperationState::Failed;
            self.reason = Some("the pool's configuration was changed meanwhile".to_owned());
        }
        self
    }
}

impl Rollout {
    /// Takes up an operation that is newer than the last one, once the last one is over. Whether it did.
    pub fn take_up(&mut self, desired: &DesiredPool, now_ms: u64) -> bool {
        if desired.generation <= self.generation() || self.is_busy() {
            return false;
        }
        let before = Before {
            loaded: self.settled.loaded,
            closed: self.settled.closed,
        };
        let loads = matches!(desired.kind, OperationKind::Load | OperationKind::Reload);
        let model = loads.then(|| {
            desired
                .model
                .clone()
                .unwrap_or_else(|| self.settled.model.clone())
        });
        self.settled.tries += u64::from(loads);
        self.operation = Some(Operation::new(desired, model.clone(), before));
        match model {
            None if self.settled.loaded => {
                self.until_ms = now_ms.saturating_add(desired.deadline_ms);
                self.enter(OperationPhase::Draining, now_ms);
            }
            None => self.stop_serving(now_ms),
            Some(model) if !self.settled.loaded => self.begin_loading(model, now_ms),
            // A reload to the same model takes a file that was replaced.
            Some(model) if desired.kind == OperationKind::Load && model == self.settled.model => {
                self.settled.closed = false;
                self.enter(OperationPhase::Loading, now_ms);
            }
            Some(_) => self.enter(OperationPhase::Checking, now_ms),
        }
        true
    }

    /// Whether an operation runs.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let running = |operation: &Operation| operation.state == OperationState::Running;
        self.operation.as_ref().is_some_and(running)
    }

    /// Takes every step that is due.
    pub fn advance(&mut self, world: &World) {
        let busy = self.is_busy();
        // Each step changes the phase, and no way through the phases is a circle while the world stands still.
        while self.step(world) {}
        if busy && !self.is_busy() {
            self.remember(world);
        }
    }

    /// A load that has just failed is not to be ordered again for each task that comes.
    fn remember(&mut self, world: &World) {
        let Some(operation) = &self.operation else { return };
        let loads = operation.kind == OperationKind::Load;
        let Some(model) = operation.model.as_ref().filter(|_| loads) else {
            return;
        };
        self.failed_loads
            .retain(|failed| failed.model != *model && world.now_ms < failed.until_ms);
        if operation.state == OperationState::Failed {
            self.failed_loads.push(FailedLoad {
                model: model.clone(),
                until_ms: world.now_ms.saturating_add(world.retry_after_ms),
                reason: operation.reason.clone().unwrap_or_default(),
            });
        }
    }

    fn step(&mut self, world: &World) -> bool {
        let before = (self.phase, self.retiring.is_some());
        self.see_off(world);
        let serving = self.settled.side;
        let (old, new) = (world.side(serving), world.side(serving.other()));
        match self.phase {
            OperationPhase::Steady => {}
            OperationPhase::Loading => self.loading(old, world.now_ms),
            OperationPhase::Checking => self.checking(new, world),
            OperationPhase::Beside => self.beside(new, world),
            OperationPhase::Draining => self.draining(old, world.now_ms),
            OperationPhase::Stopping => self.stopping(old, new, world.now_ms),
            OperationPhase::Swapping => self.swapping(new, world),
            OperationPhase::Clearing => self.clearing(new, world.now_ms),
            OperationPhase::Restoring => self.restoring(old, world.now_ms),
        }
        (self.phase, self.retiring.is_some()) != before
    }

    /// The relieved side ends when it has nothing left, or no time.
    fn see_off(&mut self, world: &World) {
        let relieved = world.side(self.settled.side.other());
        let over = |retiring: &Retiring| {
            relieved.leases == Some(0) || relieved.stopped || retiring.until_ms <= world.now_ms
        };
        if self.retiring.as_ref().is_some_and(over) {
            self.retiring = None;
        }
    }

    fn loading(&mut self, side: &SideView, now_ms: u64) {
        let hopeless = |why: &&Unready| side.given_up || needs_a_person(why.cause);
        if side.ready {
            self.finish(Ok(()), now_ms);
        } else if let Some(why) = side.failure.as_ref().filter(hopeless) {
            let why = why.hint.clone();
            if let Some(operation) = &self.operation {
                self.settled.loaded = operation.before.loaded;
                self.settled.closed = operation.before.closed;
            }
            self.finish(Err(why), now_ms);
        }
    }

    fn checking(&mut self, new: &SideView, world: &World) {
        if self.retiring.is_some() || !new.stopped {
            return;
        }
        match (&world.candidate, &world.room_beside) {
            // A download has limits of its own.
            (Err(why), _) if why.cause == UnreadyCause::ModelFetching => {}
            (Err(why), _) if why.cause == UnreadyCause::Loading && !self.is_overdue(world) => {}
            (Err(why), _) => self.finish(Err(why.hint.clone()), world.now_ms),
            (Ok(()), Ok(())) => self.enter(OperationPhase::Beside, world.now_ms),
            (Ok(()), Err(why)) => self.make_room(&why.hint, world.now_ms),
        }
    }

    fn beside(&mut self, new: &SideView, world: &World) {
        if new.ready {
            self.retiring = Some(Retiring {
                model: self.settled.model.clone(),
                until_ms: world.now_ms.saturating_add(self.deadline_ms()),
            });
            return self.change_roles(world.now_ms);
        }
        let Some(why) = self.failure(new, world) else {
            return;
        };
        let room = matches!(why.cause, UnreadyCause::VramOom | UnreadyCause::VramInsufficient);
        if room {
            self.make_room(&why.hint, world.now_ms);
        } else {
            self.finish(Err(why.hint), world.now_ms);
        }
    }

    fn draining(&mut self, old: &SideView, now_ms: u64) {
        if old.leases == Some(0) || old.stopped || self.until_ms <= now_ms {
            self.enter(OperationPhase::Stopping, now_ms);
        }
    }

    fn stopping(&mut self, old: &SideView, new: &SideView, now_ms: u64) {
        if !old.stopped || !new.stopped {
            return;
        }
        if self.candidate().is_some() {
            self.enter(OperationPhase::Swapping, now_ms);
        } else {
            self.stop_serving(now_ms);
        }
    }

    fn swapping(&mut self, new: &SideView, world: &World) {
        if new.ready {
            return self.change_roles(world.now_ms);
        }
        if let Some(why) = self.failure(new, world) {
            self.note(&why.hint);
            self.enter(OperationPhase::Clearing, world.now_ms);
        }
    }

    fn clearing(&mut self, new: &SideView, now_ms: u64) {
        if new.stopped {
            self.enter(OperationPhase::Restoring, now_ms);
        }
    }

    fn restoring(&mut self, old: &SideView, now_ms: u64) {
        let reason = self
            .operation
            .as_ref()
            .and_then(|operation| operation.reason.clone());
        let reason = reason.unwrap_or_default();
        let model = self.settled.model.model_ref.as_str();
        if old.ready {
            self.finish(Err(format!("{reason}; {model} is served again")), now_ms);
        } else if old.given_up {
            let why = old.failure.as_ref().map_or("", |why| why.hint.as_str());
            self.finish(Err(format!("{reason}; {model} did not come back: {why}")), now_ms);
        }
    }

    /// Why the new side will not do, if so.
    fn failure(&self, new: &SideView, world: &World) -> Option<Unready> {
        let overdue = self.is_overdue(world);
        let held_up = new.blocked.as_ref().filter(|_| overdue);
        new.failure.as_ref().or(held_up).cloned()
    }

    const fn is_overdue(&self, world: &World) -> bool {
        world.now_ms >= self.since_ms.saturating_add(world.patience_ms)
    }

    fn deadline_ms(&self) -> u64 {
        self.operation
            .as_ref()
            .map_or(0, |operation| operation.deadline_ms)
    }

    fn begin_loading(&mut self, model: ModelChoice, now_ms: u64) {
        self.settled.changes += u64::from(model != self.settled.model);
        self.settled.model = model;
        self.settled.loaded = true;
        self.settled.closed = false;
        self.enter(OperationPhase::Loading, now_ms);
    }

    /// The old side has to end before the new one can load.
    fn make_room(&mut self, why: &str, now_ms: u64) {
        self.note(&format!("not beside the old model: {why}"));
        self.until_ms = now_ms.saturating_add(self.deadline_ms());
        self.enter(OperationPhase::Draining, now_ms);
    }

    fn change_roles(&mut self, now_ms: u64) {
        if let Some(model) = self.candidate().cloned() {
            self.settled.model = model;
        }
        self.settled.side = self.settled.side.other();
        self.settled.changes += 1;
        self.settled.closed = false;
        self.finish(Ok(()), now_ms);
    }

    fn stop_serving(&mut self, now_ms: u64) {
        let kind = self.operation.as_ref().map(|operation| operation.kind);
        self.settled.loaded = false;
        self.settled.closed = kind == Some(OperationKind::Drain);
        self.finish(Ok(()), now_ms);
    }

    fn note(&mut self, reason: &str) {
        if let Some(operation) = &mut self.operation {
            operation.reason = Some(reason.to_owned());
        }
    }

    fn finish(&mut self, outcome: Result<(), String>, now_ms: u64) {
        if let Some(operation) = &mut self.operation {
            match outcome {
                Ok(()) => operation.state = OperationState::Succeeded,
                Err(reason) => {
                    operation.state = OperationState::Failed;
                    operation.reason = Some(reason);
                }
            }
        }
        self.enter(OperationPhase::Steady, now_ms);
    }

    const fn enter(&mut self, phase: OperationPhase, now_ms: u64) {
        self.phase = phase;
        self.since_ms = now_ms;
    }
}
