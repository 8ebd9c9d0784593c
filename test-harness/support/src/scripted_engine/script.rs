//! The script: everything that a test can make the engine do. Pure data. Unknown keys are refused, so
//! that a misspelt fault cannot pass as "no fault".

use std::num::{NonZeroU32, NonZeroUsize};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the engine does. The default behaves like a healthy, fast engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Every route answers 503 "Loading model" for so long after the start.
    pub load_ms: u64,
    /// Fail instead of becoming ready, after `load_ms`.
    pub start_failure: Option<StartFailure>,
    /// Lines for stderr at the start, as they are.
    pub stderr_lines: Vec<String>,
    /// Noise for stderr once ready.
    pub stderr_flood: Option<Flood>,
    /// Do not end on SIGTERM.
    pub ignore_sigterm: bool,
    /// Devices that `-dev` may name; any other ends the start with exit code 1.
    pub devices: Vec<String>,
    /// Neither probes nor `/slots` are answered, as when the decode loop hangs; health is.
    pub stalled: bool,
    /// What it holds on GPUs, as the fake NVML shows it.
    pub residency: Residency,
    /// Layers offloaded and layers of the model, as the start-up log claims them.
    pub offloaded_layers: (u32, u32),
    /// The context length that the model was trained with, tokens.
    pub n_ctx_train: u32,
    /// `/props.build_info`.
    pub build_info: String,
    /// What `/health` says once loaded.
    pub health: Health,
    /// Answer every completion, chat, embedding and rerank with this error.
    pub refuse_completions: Option<EngineError>,
    /// From the slot's start to the first token.
    pub first_token_delay_ms: u64,
    /// From token to token, on an absolute schedule; 0 is as fast as possible.
    pub token_delay_us: u64,
    /// Text tokens before the end of sequence; absent: chosen by hash, 12 to 28.
    pub tokens: Option<u32>,
    /// Never stop: neither end of sequence nor `n_predict` nor a full context counts.
    pub infinite: bool,
    /// Token frames in one HTTP chunk and one write.
    pub tokens_per_write: NonZeroU32,
    /// Write at most so many bytes at a time.
    pub fragment_bytes: Option<NonZeroUsize>,
    /// Rest between fragments.
    pub fragment_delay_us: u64,
    /// Send the response head with the slot and a comment frame after so long a silence; absent:
    /// as the request or the command line says (30 s, and the head with the first token).
    pub ping_interval_ms: Option<u64>,
    /// What the tokens say.
    pub text: Text,
    /// So many tokens of a chat are reasoning before the answer begins.
    pub reasoning: u32,
    /// Each text ends in `@` and 20 digits: when its frame was handed to the socket, CLOCK_MONOTONIC
    /// in nanoseconds. For benchmarks: whoever receives it on the same host knows its age.
    pub stamp_tokens: bool,
    /// Every n-th token frame has an empty `content`.
    pub empty_every: Option<NonZeroU32>,
    /// Send the stray `data: null` frame before the first token.
    pub null_frame: bool,
    /// Go wrong in mid-stream.
    pub fault: Option<Fault>,
    /// Requests that the report remembers.
    pub keep_requests: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            load_ms: 0,
            start_failure: None,
            stderr_lines: Vec::new(),
            stderr_flood: None,
            ignore_sigterm: false,
            devices: (0..8).map(|n| format!("CUDA{n}")).collect(),
            stalled: false,
            residency: Residency::default(),
            offloaded_layers: (33, 33),
            n_ctx_train: 32_768,
            build_info: "b0-scripted".to_owned(),
            health: Health::Ok,
            refuse_completions: None,
            first_token_delay_ms: 0,
            token_delay_us: 0,
            tokens: None,
            infinite: false,
            tokens_per_write: NonZeroU32::MIN,
            fragment_bytes: None,
            fragment_delay_us: 0,
            ping_interval_ms: None,
            text: Text::Words,
            reasoning: 0,
            stamp_tokens: false,
            empty_every: None,
            null_frame: false,
            fault: None,
            keep_requests: 1024,
        }
    }
}

/// What the engine holds on GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residency {
    /// Its model and a context on the GPUs of `CUDA_VISIBLE_DEVICES`.
    #[default]
    Honest,
    /// Nothing: it computes on the CPU.
    Absent,
    /// A context without the model.
    ContextOnly,
    /// Its model on these GPUs, whatever it was told.
    On(Vec<String>),
}

/// A start that does not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartFailure {
    /// The process's exit code.
    pub exit_code: u8,
    /// The last line on stderr.
    pub message: String,
}

/// Noise on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// How many lines.
    pub lines: u64,
    /// How long each is.
    pub line_bytes: usize,
}

/// What `/health` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// 200.
    #[default]
    Ok,
    /// 503.
    Unavailable,
    /// 500.
    Error,
}

/// What the tokens say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// English words, one token each.
    #[default]
    Words,
    /// Characters of two to four UTF-8 bytes, each made of as many tokens.
    Multibyte,
}

/// An error in the dialect's own shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineError {
    /// HTTP status, and the `code` of the body.
    pub code: u16,
    /// For people.
    pub message: String,
    /// The dialect's kind of error.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Default for EngineError {
    /// What llama.cpp says when the shared KV cache is exhausted.
    fn default() -> Self {
        Self::new(500, "server_error", "Context size has been exceeded.")
    }
}

impl EngineError {
    /// An error with this status, type and message.
    pub fn new(code: u16, kind: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            kind: kind.to_owned(),
        }
    }
}

/// Something that goes wrong in place of a token frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which frame, from 0: so many token frames were sent before.
    pub at_frame: u32,
    /// What happens.
    pub kind: FaultKind,
    /// To how many requests it happens; absent: to all.
    #[serde(default)]
    pub times: Option<u32>,
    /// Only to requests whose prompt contains this.
    #[serde(default)]
    pub prompt_contains: Option<String>,
}

impl Fault {
    /// A fault of every request.
    pub fn at(at_frame: u32, kind: FaultKind) -> Self {
        Self {
            at_frame,
            kind,
            times: None,
            prompt_contains: None,
        }
    }

    /// The same, but only for the first `times` requests.
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    /// The same, but only for requests whose prompt contains `text`.
    pub fn only_prompts_containing(self, text: &str) -> Self {
        Self {
            prompt_contains: Some(text.to_owned()),
            ..self
        }
    }
}

/// What goes wrong. The last three are odd frames after which the stream goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// An error frame, then the proper end of the body. At frame 0: a plain HTTP error.
    InStreamError(EngineError),
    /// The proper end of the body, without a final frame.
    CleanEof,
    /// The connection ends without the end of the body.
    Fin,
    /// The same in the middle of a frame.
    CutFrame,
    /// The connection is reset.
    Rst,
    /// Nothing more comes; the connection stays open.
    Stall,
    /// The process aborts like one whose GPU ran out of memory (SIGABRT).
    Abort,
    /// The process ends with this code.
    Exit(u8),
    /// A frame that is not UTF-8.
    BadUtf8,
    /// A frame that is not JSON.
    MalformedJson,
    /// A frame whose `content` has so many bytes.
    Oversized(usize),
}

impl FaultKind {
    /// The name in the report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InStreamError(_) => "in_stream_error",
            Self::CleanEof => "clean_eof",
            Self::Fin => "fin",
            Self::CutFrame => "cut_frame",
            Self::Rst => "rst",
            Self::Stall => "stall",
            Self::Abort => "abort",
            Self::Exit(_) => "exit",
            Self::BadUtf8 => "bad_utf8",
            Self::MalformedJson => "malformed_json",
            Self::Oversized(_) => "oversized",
        }
    }
}

impl Script {
    /// This script with the top-level keys of `patch` set; `null` sets a key back to its default.
    ///
    /// # Errors
    /// The patch is not an object, or names an unknown key, or holds a wrong type.
    pub fn merged(&self, patch: &Value) -> Result<Self, serde_json::Error> {
        let patch: serde_json::Map<String, Value> = serde_json::from_value(patch.clone())?;
        let mut merged = serde_json::to_value(self)?;
        for (key, value) in patch {
            match merged.as_object_mut() {
                Some(fields) if value.is_null() => drop(fields.remove(&key)),
                Some(fields) => drop(fields.insert(key, value)),
                None => {}
            }
        }
        serde_json::from_value(merged)
    }

    /// Paces the tokens: `first_ms` to the first, then one every `token_us`.
    #[must_use]
    pub fn paced(self, first_ms: u64, token_us: u64) -> Self {
        Self {
            first_token_delay_ms: first_ms,
            token_delay_us: token_us,
            ..self
        }
    }

    /// Sets the number of text tokens.
    #[must_use]
    pub fn tokens(self, tokens: u32) -> Self {
        Self {
            tokens: Some(tokens),
            ..self
        }
    }

    /// Adds a fault.
    #[must_use]
    pub fn fault(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    /// Loads for so long.
    #[must_use]
    pub fn loading_for(self, load_ms: u64) -> Self {
        Self { load_ms, ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_null_resets() {
        let script = Script::default().paced(5, 100).tokens(9);
        let merged = script
            .merged(&json!({"token_delay_us": 7, "tokens": null}))
            .unwrap();
        assert_eq!(
            (merged.first_token_delay_ms, merged.token_delay_us, merged.tokens),
            (5, 7, None)
        );
    }

    #[test]
    fn a_misspelt_knob_is_refused() {
        let error = Script::default()
            .merged(&json!({"token_dealy_us": 7}))
            .unwrap_err();
        assert!(error.to_string().contains("token_dealy_us"), "{error}");
    }

    #[test]
    fn faults_read_as_documented() {
        let fault: Fault = serde_json::from_value(json!({"at_frame": 3, "kind": {"exit": 1}})).unwrap();
        assert_eq!(fault, Fault::at(3, FaultKind::Exit(1)));
        let fault: Fault = serde_json::from_value(json!({"at_frame": 0, "kind": "rst"})).unwrap();
        assert_eq!(fault, Fault::at(0, FaultKind::Rst));
    }
}
