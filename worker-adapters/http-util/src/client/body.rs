//! A response body as it arrives, and the clock that notices silence.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, StatusCode};
use http_body::Body;

use crate::error::{HttpError, Target};
use crate::wait::Watchdog;

/// A response whose body is still to be read. The status is 2xx, unless any was asked for
/// ([`Endpoint::forward`](super::Endpoint::forward)).
#[derive(Debug)]
pub struct StreamResponse {
    /// The status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: ByteStream,
}

/// Body bytes in the pieces in which they arrive, never empty ones. Ends after the first error. Dropping it before
/// its end closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
#[derive(Debug)]
pub struct ByteStream {
    state: State,
    /// The HTTP library's own read timeout is not used: it also limits the wait for the response head, and it counts
    /// the reader's pauses as silence of the peer.
    silence: Option<Watchdog>,
    received: u64,
    target: Target,
}

#[derive(Debug)]
enum State {
    Open(reqwest::Body),
    Ended,
}

impl ByteStream {
    pub(super) fn new(body: reqwest::Body, idle_timeout: Duration, target: Target) -> Self {
        Self {
            state: State::Open(body),
            silence: Some(Watchdog::new(idle_timeout)),
            received: 0,
            target,
        }
    }

    /// Without the idle limit: for a reader that knows better what progress is, and measures its absence itself.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Self {
            silence: None,
            ..self
        }
    }

    /// The exchange that it is the body of.
    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// The next piece, or `None` at the body's proper end. Nothing is lost when the call is dropped unfinished.
    ///
    /// # Errors
    /// [`HttpError::IdleTimeout`] or [`HttpError::Reset`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.try_next().await
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HttpError>>> {
        let State::Open(body) = &mut self.state else {
            return Poll::Ready(None);
        };
        loop {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
                break;
            };
            if let Some(silence) = &mut self.silence {
                silence.restart(silence.limit());
            }
            match frame {
                None => return Poll::Ready(None),
                Some(Err(e)) => {
                    return Poll::Ready(Some(Err(HttpError::in_body(
                        self.target.clone(),
                        self.received,
                        e,
                    ))));
                }
                Some(Ok(frame)) => {
                    // Trailers and empty pieces tell a reader nothing.
                    let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) else {
                        continue;
                    };
                    self.received += data.len() as u64;
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
        let Some(silence) = &mut self.silence else {
            return Poll::Pending;
        };
        let limit = ready!(silence.poll_exceeded(cx));
        let (target, bytes_received) = (self.target.clone(), self.received);
        Poll::Ready(Some(Err(HttpError::IdleTimeout {
            target,
            limit,
            bytes_received,
        })))
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, HttpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.poll_data(cx));
        if !matches!(item, Some(Ok(_))) {
            self.state = State::Ended;
        }
        Poll::Ready(item)
    }
}

#[cfg(test)]
mod tests;
