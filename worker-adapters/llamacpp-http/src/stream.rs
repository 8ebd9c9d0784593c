//! The stream of one generation: the socket, the decoder and the watchdog put together.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adapter_api::{AdapterError, AdapterErrorKind, Timeouts, TokenBatch, TokenStream};
use futures_util::Stream;
use http_util::ByteStream;
use tokio::time::Instant;

use crate::decoder::{CompletionDecoder, Read};
use crate::failure;
use crate::watchdog::Watchdog;

/// `token* → finish | error`, exactly once. Dropping it closes the connection; the server frees the slot when it sees that.
pub(crate) struct CompletionStream {
    body: ByteStream,
    decoder: CompletionDecoder,
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

impl CompletionStream {
    /// A response whose request was sent at `submitted`.
    pub(crate) fn new(body: ByteStream, submitted: Instant, timeouts: &Timeouts) -> Self {
        Self {
            body,
            decoder: CompletionDecoder::default(),
            watchdog: Watchdog::new(submitted, timeouts.first_token),
            token_idle: timeouts.token_idle,
            phase: Phase::Prefill,
        }
    }

    /// Reads until something counts.
    fn poll_read(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Read> {
        loop {
            let read = match Pin::new(&mut self.body).poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => self.decoder.feed(&bytes, batch),
                Poll::Ready(Some(Err(error))) => Read::End(Err(failure::of_exchange(&error))),
                Poll::Ready(None) => Read::End(Err(self.decoder.broken_off())),
                Poll::Pending => {
                    let limit = ready!(self.watchdog.poll_exceeded(cx));
                    Read::End(Err(self.timeout(limit)))
                }
            };
            if !matches!(read, Read::Idle) {
                return Poll::Ready(read);
            }
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Result<(), AdapterError>> {
        let texts = batch.len();
        match ready!(self.poll_read(cx, batch)) {
            Read::Idle | Read::Progress => {
                self.phase = Phase::Decode;
                self.watchdog.restart(self.token_idle);
                Poll::Ready(Ok(()))
            }
            Read::End(Ok(finish)) => {
                self.phase = Phase::Over;
                batch.set_finish(finish);
                Poll::Ready(Ok(()))
            }
            Read::End(Err(error)) if batch.len() > texts => {
                self.phase = Phase::Failing(error);
                Poll::Ready(Ok(()))
            }
            Read::End(Err(error)) => {
                self.phase = Phase::Over;
                Poll::Ready(Err(error))
            }
        }
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

impl TokenStream for CompletionStream {
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

fn polled_too_often() -> AdapterError {
    AdapterError::new(AdapterErrorKind::Protocol, "the stream was polled after its end")
}
