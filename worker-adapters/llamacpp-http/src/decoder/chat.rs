//! The decoder of a `/v1/chat/completions` stream.
//!
//! A token is one delta that carries text: of the answer (`content`), of the reasoning before it (`reasoning_content`),
//! or of a tool call (`tool_calls`, as its JSON). Nothing that the server says is dropped. The end is `[DONE]`, after a
//! chunk with the finish reason and one with the usage.

use std::ops::ControlFlow;

use adapter_api::{AdapterError, Finish, FinishCause, TokenBatch};
use http_util::sse;

use super::{Decoder, FRAME_LIMIT, Read, broken_off, too_large};
use crate::frame::chat::{self, Chunk, Counts};
use crate::frame::protocol;

const END: &[u8] = b"[DONE]";

/// Decodes a chat stream.
#[derive(Debug)]
pub struct ChatDecoder {
    sse: sse::Decoder,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    /// Deltas with text so far. The server counts tokens only at the end; a delta is at least one.
    texts: u32,
    cause: Option<FinishCause>,
    counts: Counts,
}

impl Default for ChatDecoder {
    fn default() -> Self {
        Self {
            sse: sse::Decoder::with_limit(FRAME_LIMIT),
            state: State::default(),
        }
    }
}

impl Decoder for ChatDecoder {
    fn feed(&mut self, read: &[u8], batch: &mut TokenBatch) -> Read {
        let Self { sse, state } = self;
        let before = state.texts;
        let fed = sse.feed(read, |event| match state.take(event.data, batch) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(finish)) => ControlFlow::Break(Ok(finish)),
            Err(error) => ControlFlow::Break(Err(error)),
        });
        match fed {
            Ok(ControlFlow::Break(end)) => Read::End(end),
            Ok(ControlFlow::Continue(())) if state.texts > before => Read::Progress,
            Ok(ControlFlow::Continue(())) => Read::Idle,
            Err(limit) => Read::End(Err(too_large(&limit))),
        }
    }

    fn broken_off(&self) -> AdapterError {
        broken_off("[DONE]", self.state.texts)
    }
}

impl State {
    /// One event; a finish at the end.
    fn take(&mut self, data: &[u8], batch: &mut TokenBatch) -> Result<Option<Finish>, AdapterError> {
        if data.starts_with(END) {
            return self.finish().map(Some);
        }
        if data == b"null" {
            return Ok(None);
        }
        let texts = batch.len();
        let Chunk { cause, counts } = chat::read(data, batch)?;
        self.cause = cause.or(self.cause);
        self.counts = counts.or(self.counts);
        // A batch is one read, far below 2³² texts.
        let added = u32::try_from(batch.len() - texts).unwrap_or(u32::MAX);
        self.texts = self.texts.saturating_add(added);
        batch.progress(self.texts);
        Ok(None)
    }

    fn finish(&self) -> Result<Finish, AdapterError> {
        let missing = |what: &str| protocol(format!("llama.cpp ended a chat without {what}"));
        let counts = self.counts;
        Ok(Finish {
            cause: self.cause.ok_or_else(|| missing("a finish reason"))?,
            tokens_in: counts.tokens_in.ok_or_else(|| missing("its usage"))?,
            tokens_out: counts.tokens_out.ok_or_else(|| missing("its usage"))?,
            cached_tokens: counts.cached_tokens,
            prefill_ms: counts.prefill_ms,
            decode_ms: counts.decode_ms,
            result: None,
        })
    }
}

#[cfg(test)]
mod tests;
