//! Stop signals: the first SIGTERM or SIGINT asks for a graceful stop, the second for an immediate
//! one. The service manager sends SIGTERM, a terminal SIGINT; both mean the same.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Which signal asked for the immediate stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

impl StopSignal {
    /// The exit status shells and service managers use for it: 128 and the signal's number.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

/// The stop signals of this process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    graceful: CancellationToken,
}

/// Takes over SIGTERM and SIGINT. Call it before anything that a signal should stop gracefully.
///
/// # Errors
/// The handler cannot be installed.
pub fn signals() -> io::Result<Signals> {
    Ok(Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        graceful: CancellationToken::new(),
    })
}

impl Signals {
    /// Cancelled by the first signal, once [`immediate`](Self::immediate) is polled.
    #[must_use]
    pub fn graceful(&self) -> CancellationToken {
        self.graceful.clone()
    }

    /// Cancels the graceful token at the first signal and ends at the second. Run the daemon and
    /// this in one `select!`: when this wins, return its exit status without waiting for anything.
    pub async fn immediate(mut self) -> StopSignal {
        let first = self.next().await;
        tracing::info!(signal = ?first, "stopping; the next signal stops at once");
        self.graceful.cancel();
        self.next().await
    }

    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}
