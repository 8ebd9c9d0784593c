//! The life of a replica as a pure machine: events and the time in, at most one action out. It starts
//! nothing, waits for nothing and reads no clock; the actor around it does. Ready means that the model is
//! there, the engine is started and health has passed (ORCH-3421).
//!
//! Level-triggered: a [`Goal`] says what shall be, and [`Machine::on`] works out the next step from where
//! things are, so that a repeated, lost or late goal does no harm.

use std::sync::Arc;
use std::time::Duration;

use api_types::pool::{ReplicaState, UnreadyCause};
use tokio::time::Instant;

use super::budget::{RestartBudget, RestartPolicy, Verdict};
use crate::engine::ending::Ending;
use crate::engine::probe::{EngineFacts, Look};
use crate::facts::Inputs;
use crate::models::ServedModel;
use crate::trouble::{Meanwhile, Unready, cure, meanwhile};

/// How a replica lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifePolicy {
    /// Longest time from start to ready without a sign of progress, beside what reading the model takes.
    pub load_deadline: Duration,
    /// When to start again.
    pub restart: RestartPolicy,
}

/// What a disk reads at least, bytes per second: half of what a single spinning one does.
const SLOWEST_DISK: u64 = 50_000_000;

impl LifePolicy {
    /// When a load that has shown no progress since `now` counts as hung.
    fn deadline(&self, inputs: &Inputs, now: Instant) -> Instant {
        let bytes = inputs.model.as_ref().map_or(0, |file| file.size);
        now + self.load_deadline + Duration::from_secs(bytes / SLOWEST_DISK)
    }
}

/// What shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// Whether an engine shall run.
    pub wish: Wish,
    /// Whether new work is refused.
    pub drain: bool,
    /// What a start would use; a replica that failed tries again when this changes.
    pub inputs: Inputs,
    /// What is to be served. An engine of another model is ended first.
    pub model: Option<Arc<ServedModel>>,
    /// Counts the loads that were ordered: each has a fresh budget, and a replica that failed tries again.
    pub tries: u64,
}

/// Whether an engine shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Run, all checks before a start are passed.
    Run,
    /// Run, but a check before the start is not passed.
    Blocked(Unready),
    /// Do not run.
    Stop,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// What shall be, again or anew.
    Goal(Goal),
    /// The engine was looked at before it served.
    Looked(Look),
    /// The engine served and does no longer.
    Unhealthy(Unready),
    /// The engine is not ready yet, but gets on.
    Progress,
    /// The engine's process is gone; how it ended is told soon.
    Gone,
    /// How the engine ended, or that it never came to be. Nothing of it is left.
    Ended(Ending),
    /// A deadline of [`Machine::wake_at`] has come.
    Timer,
}

/// What the actor shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start an engine, as this generation.
    Start(u64),
    /// End the running one.
    Terminate,
}

/// The time of an event, and 64 random bits for jitter.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Now.
    pub now: Instant,
    /// Random bits.
    pub entropy: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Idle,
    Starting {
        deadline: Instant,
    },
    Loading {
        deadline: Instant,
    },
    Ready,
    /// The process has ended by itself, and what it leaves is being read and taken away.
    Ending,
    /// The process is told to end and has not ended yet.
    Stopping(Option<Unready>),
    Backoff {
        until: Instant,
    },
    Stopped,
    Failed {
        with: Inputs,
        tries: u64,
    },
}

/// How many times a model file that the engine refused is tried again unchanged: a file that is still being
/// copied changes, and a damaged one does not heal.
const SAME_FILE_RETRIES: u32 = 2;

/// One replica's life.
#[derive(Debug)]
pub struct Machine {
    policy: LifePolicy,
    phase: Phase,
    goal: Goal,
    generation: u64,
    started_with: Inputs,
    started_model: Option<Arc<ServedModel>>,
    budget: RestartBudget,
    facts: Option<EngineFacts>,
    failure: Option<Failure>,
}

/// The last failure, shown until the replica is ready again.
#[derive(Debug)]
struct Failure {
    unready: Unready,
    cause: UnreadyCause,
    last_error: Option<String>,
    refusals: u32,
}

/// What the machine tells the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub state: ReplicaState,
    /// Starts so far.
    pub generation: u64,
    /// Restarts in the current window.
    pub restarts: u32,
    /// Why it is not ready, and what helps.
    pub unready: Option<Unready>,
    /// What the last failure was, even when another one was too many.
    pub last_cause: Option<UnreadyCause>,
    /// The engine's last lines at the last failure.
    pub last_error: Option<String>,
    /// What the engine says about itself, once it served.
    pub facts: Option<EngineFacts>,
    /// What the running engine was started with.
    pub running_with: Option<Inputs>,
    /// The [`Goal::tries`] it has heard of.
    pub tries: u64,
}

impl Machine {
    /// A replica that does not run and whose latest start, if it had any, was `generation`; 0 when it had none. It
    /// stays idle until its first goal.
    #[must_use]
    pub fn new(policy: LifePolicy, generation: u64) -> Self {
        let wish = Wish::Blocked(Unready::new(UnreadyCause::DriverUnavailable, "not checked yet"));
        Self {
            policy,
            phase: Phase::Idle,
            goal: Goal {
                wish,
                drain: false,
                inputs: Inputs::default(),
                model: None,
                tries: 0,
            },
            generation,
            started_with: Inputs::default(),
            started_model: None,
            budget: RestartBudget::new(policy.restart),
            facts: None,
            failure: None,
        }
    }

    /// A replica whose latest start still runs, taken over from an earlier run of the daemon. It has to show that it
    /// serves like any other.
    #[must_use]
    pub fn taken_over(
        policy: LifePolicy,
        generation: u64,
        started: (Inputs, Option<Arc<ServedModel>>),
        now: Instant,
    ) -> Self {
        let mut machine = Self::new(policy, generation);
        machine.goal.model.clone_from(&started.1);
        (machine.started_with, machine.started_model) = started;
        machine.phase = Phase::Starting {
            deadline: policy.deadline(&machine.started_with, now),
        };
        machine
    }

    /// Takes an event in.
    pub fn on(&mut self, at: Moment, event: Event) -> Option<Action> {
        let action = match event {
            Event::Goal(goal) => {
                if goal.tries != self.goal.tries {
                    self.budget.reset();
                }
                self.goal = goal;
                None
            }
            Event::Timer => None,
            Event::Looked(look) => self.looked(look),
            Event::Unhealthy(why) => self.unhealthy(why),
            Event::Progress => {
                self.extend(at.now);
                None
            }
            Event::Gone => {
                self.gone();
                None
            }
            Event::Ended(ending) => {
                self.ended(at, ending);
                None
            }
        };
        action.or_else(|| self.settle(at.now))
    }

    /// What the latest start was, or is to be, started with.
    #[must_use]
    pub const fn inputs(&self) -> &Inputs {
        &self.started_with
    }

    /// Which model the latest start serves, or is to serve.
    #[must_use]
    pub const fn model(&self) -> Option<&Arc<ServedModel>> {
        self.started_model.as_ref()
    }

    /// When [`Event::Timer`] is due.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Starting { deadline } | Phase::Loading { deadline } => Some(deadline),
            Phase::Backoff { until } => Some(until),
            Phase::Idle
            | Phase::Ready
            | Phase::Ending
            | Phase::Stopping(_)
            | Phase::Stopped
            | Phase::Failed { .. } => None,
        };
        phase.into_iter().chain(self.budget.next_change()).min()
    }

    /// What to tell the world.
    pub fn status(&mut self, now: Instant) -> Status {
        let (state, unready) = self.state();
        Status {
            state,
            generation: self.generation,
            restarts: self.budget.used(now),
            unready,
            last_cause: self.failure.as_ref().map(|failure| failure.cause),
            last_error: self
                .failure
                .as_ref()
                .and_then(|failure| failure.last_error.clone()),
            facts: self.facts.clone(),
            running_with: self.runs().then(|| self.started_with.clone()),
            tries: self.goal.tries,
        }
    }

    fn state(&self) -> (ReplicaState, Option<Unready>) {
        let failure = || self.failure.as_ref().map(|failure| failure.unready.clone());
        match &self.phase {
            Phase::Idle => (ReplicaState::Preflight, self.blocked().cloned()),
            Phase::Starting { .. } => (ReplicaState::Starting, Some(Unready::of(UnreadyCause::Loading))),
            Phase::Loading { .. } => (ReplicaState::Loading, Some(Unready::of(UnreadyCause::Loading))),
            Phase::Ready => self.ready_state(),
            Phase::Ending => (
                ReplicaState::Backoff,
                Some(Unready::of(UnreadyCause::EngineExited)),
            ),
            Phase::Stopping(None) => (ReplicaState::Draining, Some(Unready::of(UnreadyCause::Stopped))),
            Phase::Stopping(Some(why)) => (ReplicaState::Backoff, Some(why.clone())),
            Phase::Backoff { .. } => (ReplicaState::Backoff, failure()),
            Phase::Stopped => (ReplicaState::Stopped, Some(Unready::of(UnreadyCause::Stopped))),
            Phase::Failed { .. } => (ReplicaState::Failed, failure()),
        }
    }

    /// What has become of the engine's GPU may take readiness away from an engine that still answers.
    fn ready_state(&self) -> (ReplicaState, Option<Unready>) {
        match self.blocked().map(|why| (meanwhile(why.cause), why)) {
            Some((Meanwhile::Waits, why)) => (ReplicaState::Preflight, Some(why.clone())),
            Some((Meanwhile::Drains | Meanwhile::Ends, why)) => (ReplicaState::Draining, Some(why.clone())),
            _ if self.goal.drain => (ReplicaState::Draining, Some(Unready::of(UnreadyCause::Draining))),
            _ => (ReplicaState::Ready, None),
        }
    }

    const fn blocked(&self) -> Option<&Unready> {
        match &self.goal.wish {
            Wish::Blocked(why) => Some(why),
            Wish::Run | Wish::Stop => None,
        }
    }

    const fn runs(&self) -> bool {
        match self.phase {
            Phase::Starting { .. }
            | Phase::Loading { .. }
            | Phase::Ready
            | Phase::Ending
            | Phase::Stopping(_) => true,
            Phase::Idle | Phase::Backoff { .. } | Phase::Stopped | Phase::Failed { .. } => false,
        }
    }

    fn looked(&mut self, look: Look) -> Option<Action> {
        let (Phase::Starting { deadline } | Phase::Loading { deadline }) = self.phase else {
            return None;
        };
        match look {
            Look::Silent => None,
            Look::Loading => {
                self.phase = Phase::Loading { deadline };
                None
            }
            Look::Serving(facts) => {
                self.facts = Some(facts);
                self.failure = None;
                self.phase = Phase::Ready;
                None
            }
            Look::NotOnGpu(what) => self.condemn(Unready::new(
                UnreadyCause::EngineNotOnGpu,
                format!("{what}; {}", cure(UnreadyCause::EngineNotOnGpu)),
            )),
            Look::Foreign => self.condemn(Unready::of(UnreadyCause::PortTaken)),
            Look::Wrong(what) => self.condemn(Unready::new(UnreadyCause::EngineUnhealthy, what)),
        }
    }

    fn unhealthy(&mut self, why: Unready) -> Option<Action> {
        let serves = self.phase == Phase::Ready;
        serves.then(|| self.condemn(why)).flatten()
    }

    /// No more work goes to it, and nothing else is held against it: its end says more.
    fn gone(&mut self) {
        if let Phase::Starting { .. } | Phase::Loading { .. } | Phase::Ready = self.phase {
            self.phase = Phase::Ending;
        }
    }

    /// A load that gets on has its time counted anew: a large model from a slow disk is no hang.
    fn extend(&mut self, now: Instant) {
        if let Phase::Starting { deadline } | Phase::Loading { deadline } = &mut self.phase {
            *deadline = self.policy.deadline(&self.started_with, now).max(*deadline);
        }
    }

    /// Ends the engine because of something it did.
    fn condemn(&mut self, why: Unready) -> Option<Action> {
        self.phase = Phase::Stopping(Some(why));
        Some(Action::Terminate)
    }

    fn ended(&mut self, at: Moment, ending: Ending) {
        self.facts = None;
        let told = match &self.phase {
            Phase::Stopping(None) => {
                self.phase = Phase::Stopped;
                return;
            }
            Phase::Stopping(Some(why)) => why.clone(),
            _ => Unready::new(ending.cause, format!("{}: {}", ending.how, cure(ending.cause))),
        };
        self.failed(at, told, ending.last_error);
    }

    fn failed(&mut self, at: Moment, why: Unready, last_error: Option<String>) {
        let refusals = self.refusals(&why);
        let cause = why.cause;
        let verdict = self.budget.spend(at.now, at.entropy);
        let (phase, unready) = match verdict {
            _ if refusals > SAME_FILE_RETRIES => (self.final_phase(), why),
            Verdict::RetryAfter(pause) => (
                Phase::Backoff {
                    until: at.now + pause,
                },
                why,
            ),
            Verdict::Exhausted => (self.final_phase(), self.exhausted(&why)),
        };
        self.phase = phase;
        self.failure = Some(Failure {
            unready,
            cause,
            last_error,
            refusals,
        });
    }

    /// How often in a row the engine has refused the model file.
    fn refusals(&self, why: &Unready) -> u32 {
        let before = self.failure.as_ref().map_or(0, |failure| failure.refusals);
        if why.cause == UnreadyCause::BadModel {
            before + 1
        } else {
            0
        }
    }

    fn final_phase(&self) -> Phase {
        Phase::Failed {
            with: self.started_with.clone(),
            tries: self.goal.tries,
        }
    }

    fn exhausted(&self, why: &Unready) -> Unready {
        let RestartPolicy { budget, window, .. } = self.policy.restart;
        let cause = UnreadyCause::RestartBudgetExhausted;
        let hint = format!(
            "{budget} restarts within {} s did not help, lastly {}; {}",
            window.as_secs(),
            why.hint,
            cure(cause)
        );
        Unready::new(cause, hint)
    }

    /// The next step from where things are towards the goal.
    fn settle(&mut self, now: Instant) -> Option<Action> {
        match (&self.phase, &self.goal.wish) {
            (Phase::Idle | Phase::Backoff { .. } | Phase::Failed { .. }, Wish::Stop) => {
                self.failure = None;
                self.phase = Phase::Stopped;
                None
            }
            (Phase::Starting { .. } | Phase::Loading { .. } | Phase::Ready, Wish::Stop) => {
                self.phase = Phase::Stopping(None);
                Some(Action::Terminate)
            }
            (Phase::Starting { .. } | Phase::Loading { .. } | Phase::Ready, _)
                if self.started_model != self.goal.model =>
            {
                self.phase = Phase::Stopping(None);
                Some(Action::Terminate)
            }
            (Phase::Starting { .. } | Phase::Loading { .. } | Phase::Ready, Wish::Blocked(why))
                if meanwhile(why.cause) == Meanwhile::Ends =>
            {
                let why = why.clone();
                self.condemn(why)
            }
            (Phase::Starting { deadline } | Phase::Loading { deadline }, _) if *deadline <= now => {
                self.condemn(Unready::of(UnreadyCause::LoadTimeout))
            }
            (Phase::Failed { with, tries }, _) if *with != self.goal.inputs || *tries != self.goal.tries => {
                self.budget.reset();
                self.failure = None;
                self.phase = Phase::Idle;
                self.settle(now)
            }
            (Phase::Backoff { until }, Wish::Blocked(_)) if *until <= now => {
                self.phase = Phase::Idle;
                None
            }
            (Phase::Stopped, Wish::Blocked(_)) => {
                self.phase = Phase::Idle;
                None
            }
            (Phase::Backoff { until }, Wish::Run) if *until <= now => Some(self.start(now)),
            (Phase::Idle | Phase::Stopped, Wish::Run) => Some(self.start(now)),
            _ => None,
        }
    }

    fn start(&mut self, now: Instant) -> Action {
        self.generation += 1;
        self.started_with = self.goal.inputs.clone();
        self.started_model.clone_from(&self.goal.model);
        let deadline = self.policy.deadline(&self.started_with, now);
        self.phase = Phase::Starting { deadline };
        Action::Start(self.generation)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
