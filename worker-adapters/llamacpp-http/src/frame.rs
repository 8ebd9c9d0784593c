//! One frame of a `/completion` stream: its JSON in, text and counts out. Pure.
//!
//! Nearly every frame is a token frame that the server writes in one fixed form. That form is read directly; whatever
//! differs from it in a single byte goes to serde, so that a new server version costs speed and nothing else.

pub(crate) mod chat;
mod token;

use std::borrow::Cow;

use adapter_api::{AdapterError, AdapterErrorKind, Finish, FinishCause, TokenBatch};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure;

/// What a frame meant. Its text, where it has some, is in the batch by then.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    /// A token frame: how many tokens the engine has generated, where the frame says so.
    Token { generated: Option<u32> },
    /// The `null` that a streaming server may send for no reason.
    Nothing,
    /// The final frame.
    Last(Finish),
}

/// Reads one frame and appends its text to `batch`.
///
/// # Errors
/// `Protocol` for what is no frame, and what the engine reports in an error frame.
pub(crate) fn read(data: &[u8], batch: &mut TokenBatch) -> Result<Frame, AdapterError> {
    if let Some(generated) = token::read(data, batch) {
        return Ok(Frame::Token {
            generated: Some(generated),
        });
    }
    if data == b"null" {
        return Ok(Frame::Nothing);
    }
    let frame: AnyFrame<'_> = serde_json::from_slice(data).map_err(|e| not_a_frame(data, &e))?;
    frame.into_frame(batch)
}

/// Any frame, in any form. Fields that are not named here are skipped.
#[derive(Debug, Deserialize)]
struct AnyFrame<'a> {
    #[serde(borrow, default)]
    content: Cow<'a, str>,
    #[serde(default)]
    stop: bool,
    tokens_predicted: Option<u32>,
    tokens_evaluated: Option<u32>,
    #[serde(default)]
    truncated: bool,
    #[serde(borrow, default)]
    stop_type: Cow<'a, str>,
    timings: Option<Timings>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// Milliseconds are fractional.
#[derive(Debug, Deserialize)]
struct Timings {
    cache_n: Option<u32>,
    prompt_ms: Option<f64>,
    predicted_ms: Option<f64>,
}

impl AnyFrame<'_> {
    fn into_frame(self, batch: &mut TokenBatch) -> Result<Frame, AdapterError> {
        if let Some(error) = self.error {
            return Err(failure::in_stream(error));
        }
        batch.push(&self.content);
        if self.stop {
            return self.finish().map(Frame::Last);
        }
        Ok(Frame::Token {
            generated: self.tokens_predicted,
        })
    }

    fn finish(&self) -> Result<Finish, AdapterError> {
        let count = |name: &str, value: Option<u32>| {
            value.ok_or_else(|| protocol(format!("llama.cpp's final frame has no {name}")))
        };
        let timings = self.timings.as_ref();
        Ok(Finish {
            cause: self.cause(),
            tokens_in: count("tokens_evaluated", self.tokens_evaluated)?,
            tokens_out: count("tokens_predicted", self.tokens_predicted)?,
            cached_tokens: timings.and_then(|t| t.cache_n),
            prefill_ms: timings.and_then(|t| t.prompt_ms).map(whole_ms),
            decode_ms: timings.and_then(|t| t.predicted_ms).map(whole_ms),
            result: None,
        })
    }

    /// `eos` and `word` are stops; `limit` is `n_predict`, or the context with `truncated`.
    fn cause(&self) -> FinishCause {
        if self.truncated || self.stop_type == "limit" {
            FinishCause::Length
        } else {
            FinishCause::Stop
        }
    }
}

/// Saturates: a negative time or one beyond 64 bits is none that a clock has measured.
fn whole_ms(ms: f64) -> u64 {
    ms.round() as u64
}

fn not_a_frame(data: &[u8], error: &serde_json::Error) -> AdapterError {
    // The category and place only: the parser's own text may quote the frame, which holds the client's words.
    protocol(format!(
        "llama.cpp sent a frame of {} bytes that is not understood: {:?} error at byte {}",
        data.len(),
        error.classify(),
        error.column()
    ))
}

pub(crate) fn protocol(message: String) -> AdapterError {
    AdapterError::new(AdapterErrorKind::Protocol, message)
}

#[cfg(test)]
mod tests;
