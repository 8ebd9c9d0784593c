//! The rows: what was admitted, written once, and where a task is in its life, written per edge.

use api_types::task::{Timings, Usage};
use api_types::{
    CorrelationId, EngineKind, ModelId, PoolId, Priority, ReplicaId, TaskEvent, TaskId, TaskReceipt,
    TaskRequest, TaskState,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::boot::Moment;

/// Digest of a request, for idempotent repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = (0..32).map(|at| {
            text.get(at * 2..at * 2 + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        let wrong = || serde::de::Error::custom("a fingerprint has 64 hexadecimal digits");
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .filter(|_| text.len() == 64)
            .map(Self)
            .ok_or_else(wrong)
    }
}

/// What is known about a prompt's length, tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptLength {
    /// At most.
    AtMost(u32),
    /// Counted by the engine's tokenizer.
    Exactly(u32),
    /// Nothing is known.
    Unbounded,
}

/// An admitted task, as it was answered with 202.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdmissionRecord {
    /// Its place in the order of arrival over both classes.
    pub seq: u64,
    /// Its class.
    pub priority: Priority,
    /// The request, as canonical JSON.
    pub request: Box<RawValue>,
    /// Digest of it.
    pub fingerprint: Fingerprint,
    /// The prompt's length, as far as known; of several inputs the longest one's.
    pub prompt: PromptLength,
    /// The length of all inputs together.
    pub total: PromptLength,
    /// The request's correlation id.
    pub correlation: CorrelationId,
    /// Who asked, as logged.
    pub identity: String,
    /// The answer.
    pub receipt: TaskReceipt,
}

impl AdmissionRecord {
    /// The request.
    ///
    /// # Errors
    /// It was written by a version with other fields.
    pub fn request(&self) -> Result<TaskRequest, serde_json::Error> {
        serde_json::from_str(self.request.get())
    }
}

/// Where and with what a task ran last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The pool.
    pub pool_id: PoolId,
    /// The engine process.
    pub replica_id: ReplicaId,
    /// The engine.
    pub engine: EngineKind,
    /// Its build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Digest of its binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_digest: Option<String>,
    /// The model.
    pub model_id: ModelId,
    /// Digest of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Its terminal event.
    pub event: TaskEvent,
    /// Whether tokens that no reader had taken were withheld (a cancel).
    pub cut: bool,
    /// Tokens as the engine counted them.
    pub usage: Usage,
    /// Where its time went.
    pub timings: Timings,
}

/// Where a task is in its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LifeRecord {
    /// The state.
    pub state: TaskState,
    /// How often it was taken up again after a crash.
    pub epoch: u32,
    /// Times it was given a slot.
    pub attempts: u32,
    /// For each earlier epoch, the tokens of it that the current stream still begins with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<u64>,
    /// Its run, from the first one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunRecord>,
    /// Time from admission to this edge, ms.
    pub elapsed_ms: u64,
    /// When this edge was.
    pub at: Moment,
    /// How it ended, in a terminal state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndRecord>,
}

/// A task as the journal holds it.
#[derive(Debug)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// What was admitted.
    pub admission: AdmissionRecord,
    /// Where it is.
    pub life: LifeRecord,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_its_hexadecimal_digits() {
        let mut bytes = [0_u8; 32];
        bytes[0] = 0xab;
        bytes[31] = 1;
        let text = serde_json::to_string(&Fingerprint(bytes)).unwrap();
        assert!(text.starts_with("\"ab00") && text.ends_with("01\""), "{text}");
        assert_eq!(
            serde_json::from_str::<Fingerprint>(&text).unwrap(),
            Fingerprint(bytes)
        );
        for bad in [
            "\"\"",
            "\"ab\"",
            &text.replace("ab", "gz"),
            &text.replace("ab", "abcd"),
        ] {
            assert!(serde_json::from_str::<Fingerprint>(bad).is_err(), "{bad}");
        }
    }
}
