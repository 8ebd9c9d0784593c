//! The serve loop: accept within limits, serve HTTP/1.1 and HTTP/2 (prior knowledge) on one port,
//! stop gracefully.

mod caps;
mod connection;
mod io;
mod limits;
mod listener;
mod sent;
mod stop;

use std::sync::Arc;

use axum::Router;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::advice::RetryAdvice;
use crate::throttle::Throttle;
use caps::{Admission, Caps};
use connection::Connections;
pub use connection::Peer;
pub use limits::Limits;
pub use listener::{BindError, Listener};
pub use sent::{Mark, Sent};
use stop::Stop;

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Every request was answered.
    Drained,
    /// The grace period ended first.
    Cut {
        /// Connections and HTTP/2 streams that were still open.
        open: usize,
    },
}

/// Serves a router until `shutdown`, then finishes what runs within `limits.shutdown_grace` and
/// cuts the rest. An open event stream does not end by itself: whoever writes it must end it on
/// the same token.
pub async fn serve(
    listener: Listener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> Served {
    let grace = limits.shutdown_grace;
    let server = Server::new(router, limits, shutdown);
    server.accept_until_shutdown(&listener).await;
    drop(listener);
    server.drain(grace).await
}

struct Server {
    connections: Connections,
    caps: Arc<Caps>,
    slots: Arc<Semaphore>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    stop: Stop,
    cut: CancellationToken,
    refused: Throttle,
    advice: RetryAdvice,
}

impl Server {
    fn new(router: Router, limits: Limits, shutdown: CancellationToken) -> Self {
        let tracker = TaskTracker::new();
        let (stop, cut) = (Stop::default(), CancellationToken::new());
        Self {
            caps: Arc::new(Caps::new(&limits)),
            slots: Arc::new(Semaphore::new(limits.max_connections)),
            advice: limits.retry_advice.clone(),
            connections: Connections::new(router, limits, tracker.clone(), stop.clone(), cut.clone()),
            tracker,
            shutdown,
            stop,
            cut,
            refused: Throttle::new(),
        }
    }

    async fn accept_until_shutdown(&self, listener: &Listener) {
        tokio::select! {
            biased; // A stop asked for is not delayed by a flood of connections.
            () = self.shutdown.cancelled() => {}
            () = self.accept(listener) => {}
        }
        self.stop.now();
    }

    /// Takes a slot before it accepts, so that connections beyond the cap wait in the kernel.
    async fn accept(&self, listener: &Listener) {
        while let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
            let (stream, peer) = listener.accept().await;
            match self.caps.admit(peer.ip()) {
                Admission::Admitted(permit) => {
                    let connection = self.connections.open(stream, Peer(peer));
                    self.tracker.spawn(async move {
                        connection.await;
                        drop((permit, slot));
                    });
                }
                Admission::Refused { limit } => self.refuse(&stream, peer, limit),
            }
        }
    }

    fn refuse(&self, stream: &TcpStream, peer: std::net::SocketAddr, limit: usize) {
        // A fresh socket's buffer takes the few bytes; if not, the close says it as well.
        let _ = stream.try_write(&caps::refusal(limit, &self.advice));
        if let Some(more) = self.refused.allow() {
            tracing::warn!(peer = %peer.ip(), limit, more, "refuses a connection: too many from one address");
        }
    }

    async fn drain(&self, grace: std::time::Duration) -> Served {
        self.tracker.close();
        if timeout(grace, self.tracker.wait()).await.is_ok() {
            return Served::Drained;
        }
        let open = self.tracker.len();
        self.cut.cancel();
        self.tracker.wait().await;
        Served::Cut { open }
    }
}
