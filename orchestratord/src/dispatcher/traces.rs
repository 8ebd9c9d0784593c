//! What the dispatcher tells the trace of a task while it lives.

use std::sync::Arc;

use api_types::TaskId;

use super::tasks::Task;
use crate::receipt::RunFacts;

impl Task {
    /// It was given a slot.
    pub(super) fn trace_placement(&self, id: TaskId, facts: &Arc<RunFacts>) {
        self.log
            .trace(|trace| trace.placed(Arc::clone(facts), self.attempts));
        self.trace_decision(id);
    }

    /// Something was decided about it. The record is made when the task ends: most of it is the snapshot of the pools,
    /// which is shared until then.
    pub(super) fn trace_decision(&self, id: TaskId) {
        self.log.trace(|trace| {
            if let Some(decided) = self.decision.clone() {
                let job = self.spec.clone();
                trace.decided(Box::new(move || decided.for_trace(id, &job)));
            }
        });
    }
}
