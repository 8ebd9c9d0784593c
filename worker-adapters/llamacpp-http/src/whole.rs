//! The stream of work whose answer is one document: reads it to its end, then finishes with the result.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adapter_api::{AdapterError, AdapterErrorKind, Timeouts, TokenBatch, TokenStream};
use futures_util::Stream;
use http_util::ByteStream;
use http_util::wait::Watchdog;
use tokio::time::Instant;

use crate::failure;
use crate::pooled::{self, Asked};
use crate::stream::polled_too_often;

/// Largest answer, bytes (64 MiB): three million numbers as the server writes them.
const ANSWER_LIMIT: usize = 64 << 20;

/// No token, then the finish with its result, or an error. Dropping it closes the connection.
pub(crate) struct WholeStream {
    body: ByteStream,
    asked: Asked,
    received: Vec<u8>,
    watchdog: Watchdog,
    over: bool,
}

impl WholeStream {
    /// A response whose request was sent at `submitted`. The whole answer must be there within `first_token`: the server
    /// computes all of it before it sends the head.
    pub(crate) fn new(body: ByteStream, asked: Asked, submitted: Instant, timeouts: &Timeouts) -> Self {
        Self {
            body: body.unwatched(),
            asked,
            received: Vec::new(),
            watchdog: Watchdog::since(submitted, timeouts.first_token),
            over: false,
        }
    }

    /// Everything up to the end of the body.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, AdapterError>> {
        loop {
            let Poll::Ready(read) = Pin::new(&mut self.body).poll_next(cx) else {
                let limit = ready!(self.watchdog.poll_exceeded(cx));
                return Poll::Ready(Err(AdapterError::new(
                    AdapterErrorKind::Timeout,
                    format!("llama.cpp: no complete answer within {limit:?}"),
                )));
            };
            match read {
                None => return Poll::Ready(Ok(mem::take(&mut self.received))),
                Some(Err(error)) => return Poll::Ready(Err(failure::of_exchange(&error))),
                Some(Ok(bytes)) if bytes.len() > ANSWER_LIMIT - self.received.len() => {
                    return Poll::Ready(Err(too_large()));
                }
                Some(Ok(bytes)) => self.received.extend_from_slice(&bytes),
            }
        }
    }
}

impl TokenStream for WholeStream {
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Result<(), AdapterError>> {
        if self.over {
            return Poll::Ready(Err(polled_too_often()));
        }
        let answer = ready!(self.poll_answer(cx));
        self.over = true;
        let finish = answer.and_then(|body| pooled::read(self.asked, &body))?;
        batch.set_finish(finish);
        Poll::Ready(Ok(()))
    }
}

/// Asking for less helps, so it is the request that is refused.
fn too_large() -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Rejected,
        format!("inputs: the engine's answer exceeds {ANSWER_LIMIT} bytes; ask for fewer at a time"),
    )
}
