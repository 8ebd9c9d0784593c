//! What every engine adapter implements: one engine's request, stream, health, props and version in
//! terms every other crate understands.
//!
//! An adapter translates; it never queues, retries a generation, or keeps state about tasks.
//! Cancelling is dropping the [`TokenStream`]: every supported engine stops when its client's
//! connection closes.

mod batch;
mod error;
mod job;
pub mod relay;
mod timeouts;

use std::task::{Context, Poll};

use api_types::{EngineKind, Message};
use async_trait::async_trait;

pub use batch::TokenBatch;
pub use error::{AdapterError, AdapterErrorKind};
pub use job::{Finish, FinishCause, Job, JobInput};
pub use timeouts::Timeouts;

/// What a health probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The engine answers that it can generate.
    Ready,
    /// The engine answers that it is loading its model.
    Loading,
    /// The engine answers, but not that it is well.
    Unhealthy {
        /// What it answered, bounded and redacted.
        detail: String,
    },
}

/// What an engine says about itself once it is ready. What it does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineProps {
    /// The engine's build, e.g. `b11549-0c1e570`.
    pub engine_version: Option<String>,
    /// Requests it serves at once.
    pub slots_total: Option<u32>,
    /// Context per slot, tokens.
    pub ctx_per_slot: Option<u32>,
    /// The name it serves the model under.
    pub model_name: Option<String>,
    /// The path of the model file it loaded.
    pub model_path: Option<String>,
}

/// One engine endpoint.
#[async_trait]
pub trait Adapter: Send + Sync {
    /// Which engine this adapter speaks to.
    fn engine(&self) -> EngineKind;

    /// Asks the engine whether it can generate.
    ///
    /// # Errors
    /// [`AdapterError`] when there is no answer at all.
    async fn health(&self) -> Result<Health, AdapterError>;

    /// Reads what the engine says about itself.
    ///
    /// # Errors
    /// [`AdapterError`] when it does not answer or answers something else.
    async fn props(&self) -> Result<EngineProps, AdapterError>;

    /// Counts the tokens of a text with the engine's own tokenizer; `None` where it has none.
    ///
    /// # Errors
    /// [`AdapterError`] when it does not answer.
    async fn count_tokens(&self, text: &str) -> Result<Option<u32>, AdapterError>;

    /// Counts the tokens of a conversation as the model's template renders it, which is what a
    /// [`JobInput::Chat`] of the same messages is charged for; `None` where the engine cannot tell.
    ///
    /// # Errors
    /// [`AdapterError`] when it does not answer, or when the template refuses the messages
    /// ([`AdapterErrorKind::Rejected`]).
    async fn count_chat_tokens(&self, messages: &[Message]) -> Result<Option<u32>, AdapterError>;

    /// Starts a job. Returns once the engine has accepted it, which for some engines is only when
    /// the first token or the whole result is there; the caller bounds the wait.
    ///
    /// # Errors
    /// [`AdapterError`] for whatever goes wrong before the stream begins.
    async fn submit(&self, job: &Job) -> Result<Box<dyn TokenStream>, AdapterError>;
}

/// The output of one job: `token* → finish`, or an error, exactly once. Work that generates nothing has
/// no token, and its answer in [`Finish::result`]. Dropping it cancels.
pub trait TokenStream: Send {
    /// Appends everything one read of the engine's socket decodes to `batch`.
    ///
    /// Ready with `Ok` means `batch` grew, or its [`TokenBatch::finish`] was set, or the engine
    /// showed progress without text; after a finish or an error it must not be polled again.
    ///
    /// # Errors
    /// [`AdapterError`] when the stream ends without the engine's end marker, carries an error,
    /// or cannot be decoded.
    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut TokenBatch) -> Poll<Result<(), AdapterError>>;
}
