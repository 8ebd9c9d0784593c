//! Signals to the dispatcher from places that cannot wait: a dropped response body, a finished or
//! panicked run. Bounded by the number of tasks: each task has at most one of each kind pending.

use std::sync::{Arc, Mutex, PoisonError};

use api_types::TaskId;
use task_journal::NotCommitted;
use tokio::sync::Notify;

use crate::runner::RunReport;
use crate::task_log::ReaderGone;

/// What happened.
#[derive(Debug)]
pub enum Signal {
    /// The last reader of an unfinished task has left.
    ReaderGone(TaskId),
    /// A run has ended, whatever the reason; its slot is free.
    RunEnded(TaskId, Box<RunReport>),
    /// An admission could not be recorded and was answered with an error.
    NotCommitted(TaskId, NotCommitted),
}

/// The mailbox. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Vec<Signal>>,
    notify: Notify,
}

impl Signals {
    /// Leaves a signal. Never waits.
    pub fn send(&self, signal: Signal) {
        self.shared
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(signal);
        self.shared.notify.notify_one();
    }

    /// Waits for at least one signal and takes all.
    pub async fn receive(&self) -> Vec<Signal> {
        loop {
            let taken =
                std::mem::take(&mut *self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.shared.notify.notified().await;
        }
    }

    /// The reader-side handle of one task.
    #[must_use]
    pub fn reader_gone(&self, task: TaskId) -> Arc<dyn ReaderGone> {
        Arc::new(Gone {
            signals: self.clone(),
            task,
        })
    }
}

struct Gone {
    signals: Signals,
    task: TaskId,
}

impl ReaderGone for Gone {
    fn last_reader_gone(&self) {
        self.signals.send(Signal::ReaderGone(self.task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_left_before_the_wait_is_not_lost() {
        let signals = Signals::default();
        let task = TaskId::new(uuid::Uuid::from_u128(1));
        signals.reader_gone(task).last_reader_gone();
        signals.reader_gone(task).last_reader_gone();
        assert_eq!(signals.receive().await.len(), 2);
    }
}
