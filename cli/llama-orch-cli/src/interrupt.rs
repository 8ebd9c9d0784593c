//! Ctrl-C as something that can be waited for. While it exists, the default action of SIGINT is off.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

pub(crate) struct Interrupts(Signal);

impl Interrupts {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let signal = signal(SignalKind::interrupt()).map_err(|e| Failure::io("listening for Ctrl-C", e))?;
        Ok(Self(signal))
    }

    /// The next Ctrl-C. Presses between two calls count as one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            pending::<()>().await;
        }
    }
}
