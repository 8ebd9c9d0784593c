//! One chunk of a `/v1/chat/completions` stream: its JSON in, text and counts out. Pure.

use std::borrow::Cow;
use std::fmt;

use adapter_api::{AdapterError, FinishCause, TokenBatch};
use api_types::TokenKind;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{not_a_frame, whole_ms};
use crate::failure;

/// What a chunk says besides its text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) cause: Option<FinishCause>,
    pub(crate) counts: Counts,
}

/// What the server counted and measured, as far as a chunk says so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) tokens_in: Option<u32>,
    pub(crate) tokens_out: Option<u32>,
    pub(crate) cached_tokens: Option<u32>,
    pub(crate) prefill_ms: Option<u64>,
    pub(crate) decode_ms: Option<u64>,
}

impl Counts {
    /// These, and `before` where these say nothing.
    pub(crate) fn or(self, before: Self) -> Self {
        Self {
            tokens_in: self.tokens_in.or(before.tokens_in),
            tokens_out: self.tokens_out.or(before.tokens_out),
            cached_tokens: self.cached_tokens.or(before.cached_tokens),
            prefill_ms: self.prefill_ms.or(before.prefill_ms),
            decode_ms: self.decode_ms.or(before.decode_ms),
        }
    }
}

/// Reads one chunk and appends its text to `batch`.
///
/// # Errors
/// `Protocol` for what is no chunk, and what the engine reports in an error frame.
pub(crate) fn read(data: &[u8], batch: &mut TokenBatch) -> Result<Chunk, AdapterError> {
    let wire: Wire<'_> = serde_json::from_slice(data).map_err(|e| not_a_frame(data, &e))?;
    if let Some(error) = wire.error {
        return Err(failure::in_stream(error));
    }
    let choice = wire.choices.0;
    if let Some(choice) = &choice {
        choice.delta.append_to(batch);
    }
    Ok(Chunk {
        cause: choice
            .and_then(|choice| choice.finish_reason)
            .map(|said| cause(&said.0)),
        counts: counts(wire.usage, wire.timings),
    })
}

/// Fields that are not named here are skipped.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    choices: First<'a>,
    usage: Option<Usage>,
    timings: Option<Timings>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The first of the choices; we never ask for more than one.
#[derive(Default)]
struct First<'a>(Option<Choice<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choices;
        impl<'de> Visitor<'de> for Choices {
            type Value = Option<Choice<'de>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let first = list.next_element()?;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first)
            }
        }
        deserializer.deserialize_seq(Choices).map(Self)
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Delta<'a>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

impl Delta<'_> {
    /// In the order in which a model says them.
    fn append_to(&self, batch: &mut TokenBatch) {
        if let Some(text) = &self.reasoning_content {
            batch.push_as(TokenKind::Reasoning, &text.0);
        }
        if let Some(text) = &self.content {
            batch.push(&text.0);
        }
        if let Some(calls) = self.tool_calls.filter(|calls| calls.get() != "null") {
            batch.push_as(TokenKind::ToolCall, calls.get());
        }
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u32>,
}

/// Milliseconds are fractional. `prompt_n` does not hold the cached tokens.
#[derive(Deserialize)]
struct Timings {
    cache_n: Option<u32>,
    prompt_n: Option<u32>,
    predicted_n: Option<u32>,
    prompt_ms: Option<f64>,
    predicted_ms: Option<f64>,
}

/// The usage is the server's word on tokens; a server without it still has timings.
fn counts(usage: Option<Usage>, timings: Option<Timings>) -> Counts {
    let measured = timings.map_or_else(Counts::default, |t| Counts {
        tokens_in: t
            .prompt_n
            .map(|prompt| prompt.saturating_add(t.cache_n.unwrap_or(0))),
        tokens_out: t.predicted_n,
        cached_tokens: t.cache_n,
        prefill_ms: t.prompt_ms.map(whole_ms),
        decode_ms: t.predicted_ms.map(whole_ms),
    });
    let counted = usage.map_or_else(Counts::default, |usage| Counts {
        tokens_in: Some(usage.prompt_tokens),
        tokens_out: Some(usage.completion_tokens),
        cached_tokens: usage.prompt_tokens_details.and_then(|d| d.cached_tokens),
        ..Counts::default()
    });
    counted.or(measured)
}

/// `stop` and `tool_calls` are ends of the model's own; what is not known is taken for one.
fn cause(finish_reason: &str) -> FinishCause {
    if finish_reason == "length" {
        FinishCause::Length
    } else {
        FinishCause::Stop
    }
}
