//! The one signal that something a report tells has changed. Carries no data: whoever wakes reads the present
//! state, so any number of changes between two looks are one.

use std::sync::Arc;

use tokio::sync::watch;

/// A cloneable end to announce changes with and to subscribe to.
#[derive(Debug, Clone, Default)]
pub struct Changes(Arc<watch::Sender<u64>>);

impl Changes {
    /// Something a report tells has changed.
    pub fn announce(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Wakes after every change from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
