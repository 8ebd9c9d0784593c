//! One connection: HTTP/1.1 or HTTP/2 by what the client sends, until it ends, is idle, or the
//! server stops.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use super::io::LingeringIo;
use super::limits::Limits;
use super::sent::Sent;
use super::stop::Stop;
use crate::body::{self, Progress};

/// Read buffer of a connection, bytes: one whole request head and then some.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// Requests at a time on one HTTP/2 connection.
const H2_STREAMS: u32 = 100;
/// HTTP/2 flow-control windows, bytes: one stream, one connection. A body limit is of this order.
const H2_STREAM_WINDOW: u32 = 64 << 10;
const H2_CONNECTION_WINDOW: u32 = 1 << 20;
/// Response bytes buffered per HTTP/2 stream, so that a slow reader pushes back early.
const H2_SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams a client may make us reset, or reset itself before we saw them, before the connection
/// ends (rapid-reset attacks).
const H2_LOCAL_RESETS: usize = 64;
const H2_PENDING_RESETS: usize = 20;
/// A quiet HTTP/2 peer is asked after the interval and gone after the timeout.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The other end of a request's connection; a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Makes connections.
pub(crate) struct Connections {
    builder: Arc<Builder<Tracked>>,
    router: Router,
    limits: Limits,
    stop: Stop,
    cut: CancellationToken,
}

impl Connections {
    pub(crate) fn new(
        router: Router,
        limits: Limits,
        tracker: TaskTracker,
        stop: Stop,
        cut: CancellationToken,
    ) -> Self {
        Self {
            builder: Arc::new(builder(&limits, tracker)),
            router,
            limits,
            stop,
            cut,
        }
    }

    /// The future that serves one connection to its end.
    pub(crate) fn open(&self, stream: TcpStream, peer: Peer) -> impl Future<Output = ()> + Send + use<> {
        let service = ConnectionService {
            router: self.router.clone(),
            peer,
            body_idle_timeout: self.limits.body_idle_timeout,
            progress: Arc::new(Progress::new()),
            sent: Sent::default(),
        };
        let (mut stopping, cut) = (self.stop.watch(), self.cut.clone());
        let (builder, first_request) = (Arc::clone(&self.builder), self.limits.header_timeout);
        async move {
            let progress = Arc::clone(&service.progress);
            let io = LingeringIo::new(stream, Arc::clone(&progress), service.sent.clone());
            let mut connection = pin!(builder.serve_connection(io, service));
            let mut silent = pin!(sleep(first_request));
            // Polled for every token: what a wake-up costs here besides the connection is two loads.
            let ended = poll_fn(|cx| {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Ended::Itself(ended));
                }
                // The HTTP implementation's own header timeout begins only when it knows the protocol; this one
                // ends a connection that is silent, or sending an endless preface or first head.
                if !progress.asked.load(Ordering::Relaxed) && silent.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ended::Silent);
                }
                stopping.poll_stopped(cx).map(|()| Ended::Stopping)
            })
            .await;
            let ended = match ended {
                Ended::Itself(ended) => ended,
                Ended::Silent => return,
                Ended::Stopping => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        biased;
                        ended = connection => ended,
                        () = cut.cancelled() => return,
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(peer = %peer.0, error, "connection ended");
            }
        }
    }
}

/// Why a connection is served no further.
enum Ended<T> {
    /// By the client, or by an error.
    Itself(T),
    /// No request came within the header timeout.
    Silent,
    /// The server stops.
    Stopping,
}

fn builder(limits: &Limits, tracker: TaskTracker) -> Builder<Tracked> {
    let mut builder = Builder::new(Tracked(tracker));
    // Heads up to the double are parsed, so that the front can answer with a body that names the
    // limit; beyond that the connection is answered 431 by the HTTP implementation.
    let parsed_header_bytes = limits.max_header_bytes * 2;
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .half_close(false)
        // One buffer per write: a frame is copied once, which is cheaper than a vector of three pieces.
        .writev(false)
        .max_buf_size(READ_BUFFER_BYTES.max(parsed_header_bytes));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(parsed_header_bytes).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(H2_LOCAL_RESETS)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Runs HTTP/2 streams as tracked tasks, so that shutdown waits for them.
#[derive(Clone)]
pub(crate) struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

struct ConnectionService {
    router: Router,
    peer: Peer,
    body_idle_timeout: Duration,
    progress: Arc<Progress>,
    sent: Sent,
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.progress.asked.store(true, Ordering::Relaxed);
        let mut request =
            request.map(|incoming| body::guarded(incoming, self.body_idle_timeout, &self.progress));
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.sent.clone());
        self.router.clone().call(request)
    }
}
