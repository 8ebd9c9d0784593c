//! The life of a task as a pure transition function.
//!
//! ```text
//! queued ──dispatch──▶ running ──finish──▶ completed
//!        ◀──requeue───
//!   │ cancel expire      │ cancel expire
//!   │ evict fail         │ fail interrupt
//!   │ interrupt          ▼
//!   ▼                  canceled expired
//! canceled expired     failed interrupted
//! evicted failed
//! interrupted
//! ```
//! A terminal state is entered once and never left (architecture invariant 1): whoever gets
//! [`Rejected::AlreadyTerminal`] came second and must not write a terminal event.

use api_types::TaskState;

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It got a slot.
    Dispatch,
    /// Its engine did not start it; it waits again.
    Requeue,
    /// The engine ended it (stop or length).
    Finish,
    /// An error ended it.
    Fail,
    /// A client ended it, or went away.
    Cancel,
    /// Its deadline passed.
    Expire,
    /// A full queue dropped it.
    Evict,
    /// The orchestrator went down while it ran, and it cannot be taken up again.
    Interrupt,
}

impl Event {
    /// Every event, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::Dispatch,
        Self::Requeue,
        Self::Finish,
        Self::Fail,
        Self::Cancel,
        Self::Expire,
        Self::Evict,
        Self::Interrupt,
    ];

    const fn verb(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatched",
            Self::Requeue => "requeued",
            Self::Finish => "finished",
            Self::Fail => "failed",
            Self::Cancel => "canceled",
            Self::Expire => "expired",
            Self::Evict => "evicted",
            Self::Interrupt => "interrupted",
        }
    }
}

/// A change that took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Where the task was.
    pub from: TaskState,
    /// Where it is.
    pub to: TaskState,
}

impl Transition {
    /// Whether this is the task's one terminal transition.
    #[must_use]
    pub const fn ends_task(&self) -> bool {
        self.to.is_terminal()
    }
}

/// A change that did not take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The task has already ended; a second cancel, a late deadline and the like.
    #[error("the task is already {state}")]
    AlreadyTerminal {
        /// How it ended.
        state: TaskState,
    },
    /// The event makes no sense in this state: a bug of the caller.
    #[error("a {state} task cannot be {}", .event.verb())]
    Impossible {
        /// Where the task is.
        state: TaskState,
        /// What was to happen.
        event: Event,
    },
}

/// Applies one event.
///
/// # Errors
/// [`Rejected`] when the task has ended or the event does not fit its state; nothing changes.
pub const fn step(state: TaskState, event: Event) -> Result<Transition, Rejected> {
    let to = match (state, event) {
        (TaskState::Queued, Event::Dispatch) => TaskState::Running,
        (TaskState::Running, Event::Requeue) => TaskState::Queued,
        (TaskState::Queued, Event::Evict) => TaskState::Evicted,
        (TaskState::Running, Event::Finish) => TaskState::Completed,
        (TaskState::Queued | TaskState::Running, Event::Fail) => TaskState::Failed,
        (TaskState::Queued | TaskState::Running, Event::Cancel) => TaskState::Canceled,
        (TaskState::Queued | TaskState::Running, Event::Expire) => TaskState::Expired,
        (TaskState::Queued | TaskState::Running, Event::Interrupt) => TaskState::Interrupted,
        (TaskState::Queued, Event::Finish | Event::Requeue)
        | (TaskState::Running, Event::Dispatch | Event::Evict) => {
            return Err(Rejected::Impossible { state, event });
        }
        (
            TaskState::Completed
            | TaskState::Failed
            | TaskState::Canceled
            | TaskState::Expired
            | TaskState::Evicted
            | TaskState::Interrupted,
            _,
        ) => return Err(Rejected::AlreadyTerminal { state }),
    };
    Ok(Transition { from: state, to })
}
