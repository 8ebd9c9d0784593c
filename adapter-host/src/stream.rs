//! A stream that tells its replica's breaker and metrics how it went. Adds one branch per read.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adapter_api::{AdapterError, TokenBatch, TokenStream};
use api_types::TaskId;

use crate::breaker::{Pass, Verdict};
use crate::replica::Replica;

/// Dropping it cancels: the adapter's stream closes its connection, and nothing is held against the replica.
pub(crate) struct Observed {
    inner: Box<dyn TokenStream>,
    replica: Arc<Replica>,
    task: TaskId,
    /// Until the outcome is known.
    pass: Option<Pass>,
    served: bool,
}

impl Observed {
    pub(crate) fn new(inner: Box<dyn TokenStream>, replica: Arc<Replica>, task: TaskId, pass: Pass) -> Self {
        Self {
            inner,
            replica,
            task,
            pass: Some(pass),
            served: false,
        }
    }

    fn first_progress(&mut self) {
        self.served = true;
        if let Some(pass) = &mut self.pass {
            self.replica.noted(pass.progress());
        }
    }

    fn finished(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.replica.settle(pass, Verdict::Well);
        }
    }

    fn failed(&mut self, error: &AdapterError) {
        if let Some(pass) = self.pass.take() {
            self.replica.failed(pass, error, self.task);
        }
    }
}

impl TokenStream for Observed {
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Result<(), AdapterError>> {
        let read = ready!(self.inner.poll_next(cx, batch));
        match &read {
            Ok(()) if batch.finish().is_some() => self.finished(),
            Ok(()) if self.served => {}
            Ok(()) => self.first_progress(),
            Err(error) => self.failed(error),
        }
        Poll::Ready(read)
    }
}
