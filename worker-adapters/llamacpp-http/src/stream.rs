//! The stream of one generation: the socket, the decoder and the watchdog put together.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adapter_api::{AdapterError, AdapterErrorKind, Finish, Timeouts, TokenBatch, TokenStream};
use futures_util::Stream;
use http_util::ByteStream;
use http_util::wait::Watchdog;
use tokio::time::Instant;

use crate::decoder::{Decoder, Read};
use crate::failure;

/// Most texts in one go, so that an engine that floods does not keep its reader's thread.
const MAX_TEXTS: usize = 256;

/// `token* → finish | error`, exactly once. Dropping it closes the connection; the server frees the slot when it sees that.
pub(crate) struct GenerationStream<D> {
    body: ByteStream,
    decoder: D,
    watchdog: Watchdog,
    token_idle: Duration,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Before the first token.
    Prefill,
    Decode,
    /// Tokens of the same read went first.
    Failing(AdapterError),
    Over,
}

impl<D: Decoder> GenerationStream<D> {
    /// A response whose request was sent at `submitted`.
    pub(crate) fn new(body: ByteStream, submitted: Instant, timeouts: &Timeouts) -> Self {
        Self {
            // Bytes are no progress: the server keeps sending comment lines while it computes nothing.
            body: body.unwatched(),
            decoder: D::default(),
            watchdog: Watchdog::since(submitted, timeouts.first_token),
            token_idle: timeouts.token_idle,
            phase: Phase::Prefill,
        }
    }

    /// Takes everything that is there: the server writes every frame as a chunk of its own, and the HTTP library hands
    /// chunks over one by one.
    fn poll_open(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Result<(), AdapterError>> {
        let texts = batch.len();
        let mut progress = false;
        while batch.len() - texts < MAX_TEXTS {
            match self.poll_read(cx, batch) {
                Poll::Pending if progress => break,
                Poll::Pending => {
                    let limit = ready!(self.watchdog.poll_exceeded(cx));
                    return Poll::Ready(self.end(Err(self.timeout(limit)), false, batch));
                }
                Poll::Ready(Read::Idle) => {}
                Poll::Ready(Read::Progress) => {
                    progress = true;
                    self.phase = Phase::Decode;
                    self.watchdog.restart(self.token_idle);
                }
                Poll::Ready(Read::End(end)) => {
                    let progress = progress || batch.len() > texts;
                    return Poll::Ready(self.end(end, progress, batch));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A finish goes with the texts before it, an error after them.
    fn end(
        &mut self,
        end: Result<Finish, AdapterError>,
        progress: bool,
        batch: &mut TokenBatch,
    ) -> Result<(), AdapterError> {
        self.phase = Phase::Over;
        match end {
            Ok(finish) => batch.set_finish(finish),
            Err(error) if progress => self.phase = Phase::Failing(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Read> {
        let read = match ready!(Pin::new(&mut self.body).poll_next(cx)) {
            Some(Ok(bytes)) => self.decoder.feed(&bytes, batch),
            Some(Err(error)) => Read::End(Err(failure::of_exchange(&error))),
            None => Read::End(Err(self.decoder.broken_off())),
        };
        Poll::Ready(read)
    }

    fn timeout(&self, limit: Duration) -> AdapterError {
        let missing = match self.phase {
            Phase::Prefill => "first token",
            _ => "further token",
        };
        AdapterError::new(
            AdapterErrorKind::Timeout,
            format!("llama.cpp: no {missing} within {limit:?}"),
        )
    }
}

impl<D: Decoder + Unpin> TokenStream for GenerationStream<D> {
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Result<(), AdapterError>> {
        match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => Poll::Ready(Err(polled_too_often())),
            Phase::Failing(error) => Poll::Ready(Err(error)),
            open @ (Phase::Prefill | Phase::Decode) => {
                self.phase = open;
                self.poll_open(cx, batch)
            }
        }
    }
}

pub(crate) fn polled_too_often() -> AdapterError {
    AdapterError::new(AdapterErrorKind::Protocol, "the stream was polled after its end")
}
