//! The decoder of a `/completion` stream: bytes in, tokens and the one end out. Pure: no clock, no socket.

use std::ops::ControlFlow;

use adapter_api::{AdapterError, AdapterErrorKind, Finish, TokenBatch};
use http_util::sse;

use crate::frame::{self, Frame};

/// Largest frame, bytes (8 MiB). A server that does not know `response_fields` echoes the prompt in its final frame: at
/// most 1 MiB by the contract, six times that when JSON escapes every byte.
const FRAME_LIMIT: usize = 8 << 20;

/// What one read of the socket brought.
#[derive(Debug, PartialEq)]
pub enum Read {
    /// Nothing that counts: pings, or part of a frame.
    Idle,
    /// Text, or tokens without text.
    Progress,
    /// The final frame, or what ended the stream instead. Text before it is in the batch.
    End(Result<Finish, AdapterError>),
}

/// Decodes one stream. How the stream is cut into reads makes no difference to what comes out.
#[derive(Debug)]
pub struct CompletionDecoder {
    sse: sse::Decoder,
    generated: u32,
}

impl Default for CompletionDecoder {
    fn default() -> Self {
        Self {
            sse: sse::Decoder::with_limit(FRAME_LIMIT),
            generated: 0,
        }
    }
}

impl CompletionDecoder {
    /// Decodes one read and appends its tokens to `batch`. What follows the final frame is discarded; the decoder is of
    /// no further use after [`Read::End`].
    pub fn feed(&mut self, read: &[u8], batch: &mut TokenBatch) -> Read {
        let Self { sse, generated } = self;
        let texts = batch.len();
        let mut counted = false;
        let fed = sse.feed(read, |event| match frame::read(event.data, batch) {
            Ok(Frame::Token { generated: now }) => {
                counted |= advance(generated, now, batch);
                ControlFlow::Continue(())
            }
            Ok(Frame::Nothing) => ControlFlow::Continue(()),
            Ok(Frame::Last(finish)) => ControlFlow::Break(Ok(finish)),
            Err(error) => ControlFlow::Break(Err(error)),
        });
        match fed {
            Ok(ControlFlow::Break(end)) => Read::End(end),
            Ok(ControlFlow::Continue(())) if counted || batch.len() > texts => Read::Progress,
            Ok(ControlFlow::Continue(())) => Read::Idle,
            Err(too_large) => Read::End(Err(AdapterError::new(
                AdapterErrorKind::Protocol,
                format!("llama.cpp: {too_large}"),
            ))),
        }
    }

    /// The stream ended without a final frame: the engine died or was stopped.
    #[must_use]
    pub fn broken_off(&self) -> AdapterError {
        AdapterError::new(
            AdapterErrorKind::Reset,
            format!(
                "llama.cpp ended the stream without its final frame after {} tokens",
                self.generated
            ),
        )
    }
}

/// Whether the frame shows that the engine has generated since the last one. Servers that do not count are believed.
fn advance(generated: &mut u32, now: Option<u32>, batch: &mut TokenBatch) -> bool {
    let Some(now) = now else { return true };
    let more = now > *generated;
    *generated = now.max(*generated);
    batch.progress(now);
    more
}

#[cfg(test)]
mod tests;
