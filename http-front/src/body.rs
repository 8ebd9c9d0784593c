//! Request bodies that may not pause for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

/// A request body that paused for longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body paused for more than {} ms", limit.as_millis())]
pub struct BodyPaused {
    /// Longest pause.
    pub limit: Duration,
}

/// What a connection has seen of its client's requests.
#[derive(Debug)]
pub(crate) struct Progress {
    /// A request has arrived.
    pub(crate) asked: AtomicBool,
    /// The last request may not have been read to its end.
    pub(crate) unread: AtomicBool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            asked: AtomicBool::new(false),
            unread: AtomicBool::new(true),
        }
    }

    fn saw(&self, end: bool) {
        self.unread.store(!end, Ordering::Relaxed);
    }
}

/// The request body for the router. A request without a body costs no allocation.
pub(crate) fn guarded(body: Incoming, limit: Duration, progress: &Arc<Progress>) -> Body {
    let end = body.is_end_stream();
    progress.saw(end);
    if end {
        return Body::empty();
    }
    Body::new(IdleBody {
        body,
        limit,
        progress: Arc::clone(progress),
        pause: None,
        paused: false,
    })
}

struct IdleBody {
    body: Incoming,
    limit: Duration,
    progress: Arc<Progress>,
    /// Made when the body first has to be waited for: most arrive with their head.
    pause: Option<Pin<Box<Sleep>>>,
    paused: bool,
}

impl IdleBody {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.paused {
            self.paused = true;
            pause.as_mut().reset(Instant::now() + limit);
        }
        pause.as_mut().poll(cx)
    }
}

impl HttpBody for IdleBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.paused = false;
                if frame.is_none() || this.body.is_end_stream() {
                    this.progress.saw(true);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this
                .poll_pause(cx)
                .map(|()| Some(Err(BodyPaused { limit: this.limit }.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
