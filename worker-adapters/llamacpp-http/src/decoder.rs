//! The decoders of streams: bytes in, tokens and the one end out. Pure: no clock, no socket. This one is for
//! `/completion`; [`ChatDecoder`] is for `/v1/chat/completions`.

mod chat;

use std::ops::ControlFlow;

use adapter_api::{AdapterError, AdapterErrorKind, Finish, TokenBatch};
use http_util::sse;

use crate::frame::{self, Frame};

pub use chat::ChatDecoder;

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
pub trait Decoder: Default + Send {
    /// Decodes one read and appends its tokens to `batch`. What follows the end is discarded; the decoder is of no
    /// further use after [`Read::End`].
    fn feed(&mut self, read: &[u8], batch: &mut TokenBatch) -> Read;

    /// The stream ended without its end marker: the engine died or was stopped.
    fn broken_off(&self) -> AdapterError;
}

/// Decodes a `/completion` stream.
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

impl Decoder for CompletionDecoder {
    fn feed(&mut self, read: &[u8], batch: &mut TokenBatch) -> Read {
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
            Err(limit) => Read::End(Err(too_large(&limit))),
        }
    }

    fn broken_off(&self) -> AdapterError {
        broken_off("its final frame", self.generated)
    }
}

fn too_large(limit: &impl std::fmt::Display) -> AdapterError {
    AdapterError::new(AdapterErrorKind::Protocol, format!("llama.cpp: {limit}"))
}

fn broken_off(missing: &str, generated: u32) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Reset,
        format!("llama.cpp ended the stream without {missing} after {generated} tokens"),
    )
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
