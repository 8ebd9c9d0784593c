//! What a pool serves and how that changes: drain, reload, load, unload. Pure: the operation, what is seen of the engines
//! and the time go in, a goal for each of the pool's two sides comes out.
//!
//! A pool has two sides of as many replicas each. One serves. A reload loads the new model on the other one, and only when
//! all of it is ready do the two change roles; where memory does not allow for both, the old side finishes and ends first,
//! and comes back when the new one fails. So either the new model serves or the old one does.
//!
//! Everything in here is recorded (see [`store`]), so that a restart of the daemon goes on where it was. Times are
//! milliseconds since 1970: a deadline must mean the same to the next run.

mod machine;
#[cfg(test)]
mod machine_tests;
pub mod store;

use api_types::operation::{ModelChoice, OperationKind, OperationPhase, OperationState, OperationStatus};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use machine::{SideView, World};

/// One of the two sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first replicas.
    #[default]
    A,
    /// The others.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its place in an array.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// What the engines of one side shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideGoal {
    /// Serve.
    Run(ModelChoice),
    /// Load and be ready; nobody is sent there yet.
    Prepare(ModelChoice),
    /// Finish what runs.
    Finish(ModelChoice),
    /// End.
    Stop,
}

impl SideGoal {
    /// The model, where there is one.
    #[must_use]
    pub const fn model(&self) -> Option<&ModelChoice> {
        match self {
            Self::Run(model) | Self::Prepare(model) | Self::Finish(model) => Some(model),
            Self::Stop => None,
        }
    }
}

/// What stays when no operation runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Settled {
    /// Which side serves, or would.
    side: Side,
    /// What is served, or was last.
    model: ModelChoice,
    /// Whether it is loaded, or shall be.
    loaded: bool,
    /// Whether new work is refused until a load.
    closed: bool,
    /// Counts changes of what is served.
    changes: u64,
    /// Counts the loads that were ordered.
    #[serde(default)]
    tries: u64,
}

/// A model whose load has failed lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FailedLoad {
    model: ModelChoice,
    until_ms: u64,
    reason: String,
}

/// The side that was relieved: it finishes what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Retiring {
    model: ModelChoice,
    until_ms: u64,
}

/// An operation that the pool took up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Operation {
    id: Uuid,
    generation: u64,
    kind: OperationKind,
    /// What it loads.
    model: Option<ModelChoice>,
    /// How long running tasks may go on, ms.
    deadline_ms: u64,
    state: OperationState,
    reason: Option<String>,
    /// What the pool was before it, for the way back.
    before: Before,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    loaded: bool,
    closed: bool,
}

/// A pool's rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What the configuration would have served at the start; another one makes this void.
    configured: ModelChoice,
    settled: Settled,
    phase: OperationPhase,
    /// When the phase began.
    since_ms: u64,
    /// Until when running tasks may go on, in phases that wait for them.
    until_ms: u64,
    /// What the side that was relieved still finishes.
    retiring: Option<Retiring>,
    operation: Option<Operation>,
    /// One per model: no task's wish loads it again before its time.
    #[serde(default)]
    failed_loads: Vec<FailedLoad>,
}

impl Rollout {
    /// A pool at its first start: serves `model`, at once or on demand.
    #[must_use]
    pub fn new(model: ModelChoice, loaded: bool) -> Self {
        Self {
            configured: model.clone(),
            settled: Settled {
                side: Side::A,
                model,
                loaded,
                closed: false,
                changes: 1,
                tries: 0,
            },
            phase: OperationPhase::Steady,
            since_ms: 0,
            until_ms: 0,
            retiring: None,
            operation: None,
            failed_loads: Vec::new(),
        }
    }

    /// This one, as an earlier run has recorded it, unless the configuration has changed since: then the configuration
    /// says what is served, and only the count of operations goes on.
    #[must_use]
    pub fn resumed(self, recorded: Option<Self>) -> Self {
        match recorded {
            Some(recorded) if recorded.configured == self.configured => recorded,
            Some(recorded) => {
                let changes = recorded.settled.changes + 1;
                let mut fresh = self;
                fresh.settled.changes = changes;
                fresh.operation = recorded.operation.map(Operation::void);
                fresh
            }
            None => self,
        }
    }

    /// What is served, or was last.
    #[must_use]
    pub const fn model(&self) -> &ModelChoice {
        &self.settled.model
    }

    /// When the phase began, milliseconds since 1970.
    #[must_use]
    pub const fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// The side that serves, or would.
    #[must_use]
    pub const fn serving(&self) -> Side {
        self.settled.side
    }

    /// The model that a running operation loads.
    #[must_use]
    pub fn candidate(&self) -> Option<&ModelChoice> {
        let operation = self.operation.as_ref()?;
        let running = operation.state == OperationState::Running;
        operation.model.as_ref().filter(|_| running)
    }

    /// Whether new work is refused on purpose.
    #[must_use]
    pub const fn refuses_work(&self) -> bool {
        self.settled.closed || matches!(self.phase, OperationPhase::Draining | OperationPhase::Stopping)
    }

    /// Whether nothing is loaded, nor on its way, and a task that asks for the pool may have it loaded.
    #[must_use]
    pub fn is_unloaded(&self) -> bool {
        !self.settled.loaded && !self.settled.closed && self.phase == OperationPhase::Steady
    }

    /// Counts changes of what is served.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.settled.changes
    }

    /// Counts the loads that were ordered: with each, a replica that was given up tries again.
    #[must_use]
    pub const fn tries(&self) -> u64 {
        self.settled.tries
    }

    /// Why the model's load has failed, while that is not long ago.
    #[must_use]
    pub fn failed_load(&self, model: &ModelChoice, now_ms: u64) -> Option<&str> {
        let lately = |failed: &&FailedLoad| failed.model == *model && now_ms < failed.until_ms;
        self.failed_loads
            .iter()
            .find(lately)
            .map(|failed| failed.reason.as_str())
    }

    /// The latest operation that was taken up; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.operation
            .as_ref()
            .map_or(0, |operation| operation.generation)
    }

    /// How the latest operation stands.
    #[must_use]
    pub fn status(&self) -> Option<OperationStatus> {
        let operation = self.operation.as_ref()?;
        Some(OperationStatus {
            operation_id: operation.id,
            kind: operation.kind,
            state: operation.state,
            phase: self.phase,
            model_ref: operation.model.as_ref().map(|model| model.model_ref.clone()),
            reason: operation.reason.clone(),
        })
    }

    /// What each side shall do, A first.
    #[must_use]
    pub fn goals(&self) -> [SideGoal; 2] {
        let (side, old) = (self.settled.side, self.settled.model.clone());
        let new = self.candidate().cloned();
        let (serving, other) = match (self.phase, new) {
            (OperationPhase::Steady, _) if !self.settled.loaded => (SideGoal::Stop, SideGoal::Stop),
            (OperationPhase::Beside, Some(new)) => (SideGoal::Run(old), SideGoal::Prepare(new)),
            (OperationPhase::Swapping, Some(new)) => (SideGoal::Stop, SideGoal::Prepare(new)),
            (OperationPhase::Draining, _) => (SideGoal::Finish(old), SideGoal::Stop),
            (OperationPhase::Stopping | OperationPhase::Clearing, _) => (SideGoal::Stop, SideGoal::Stop),
            _ => (SideGoal::Run(old), SideGoal::Stop),
        };
        let other = match &self.retiring {
            Some(retiring) => SideGoal::Finish(retiring.model.clone()),
            None => other,
        };
        match side {
            Side::A => [serving, other],
            Side::B => [other, serving],
        }
    }
}
