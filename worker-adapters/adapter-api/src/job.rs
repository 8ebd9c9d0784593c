//! What is asked of an engine, and how it ended.

use std::sync::Arc;

use api_types::{KvHint, Message, Sampling, TaskId, TaskResult};

/// One piece of work for an engine, already validated.
#[derive(Debug, Clone)]
pub struct Job {
    /// The task, for logs and request ids.
    pub task_id: TaskId,
    /// What to work on.
    pub input: JobInput,
    /// Most tokens to generate; always explicit, engines' own defaults differ. 0 for work that generates none.
    pub max_tokens: u32,
    /// Sampling seed, never an engine's "random" marker.
    pub seed: u32,
    /// Sampling parameters as the client gave them.
    pub sampling: Sampling,
    /// Whether a cached prefix may be used.
    pub kv_hint: KvHint,
    /// Byte-exact repeats were asked for: no cache, no batch-dependent shortcuts.
    pub strict: bool,
}

/// What to work on. Shared, because prompts are large and jobs are cloned for a retry.
#[derive(Debug, Clone)]
pub enum JobInput {
    /// Continue this text.
    Prompt(Arc<str>),
    /// Answer this conversation, in the form that the model's own template gives it.
    Chat(Arc<[Message]>),
    /// One vector for each of these texts. The answer is [`Finish::result`].
    Embedding(Arc<[String]>),
    /// One score for each document. The answer is [`Finish::result`].
    Rerank {
        /// What they are scored against.
        query: Arc<str>,
        /// The texts to score.
        documents: Arc<[String]>,
    },
}

/// Why the engine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishCause {
    /// End of sequence or a stop text.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
}

/// The end of a job as the engine reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Why it stopped.
    pub cause: FinishCause,
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Generated tokens.
    pub tokens_out: u32,
    /// Prompt tokens taken from the KV cache, where the engine says so.
    pub cached_tokens: Option<u32>,
    /// Prefill time, ms, where the engine says so.
    pub prefill_ms: Option<u64>,
    /// Decode time, ms, where the engine says so.
    pub decode_ms: Option<u64>,
    /// The answer to work that generates no tokens: there for [`JobInput::Embedding`] and [`JobInput::Rerank`], and only
    /// for them.
    pub result: Option<Arc<TaskResult>>,
}
