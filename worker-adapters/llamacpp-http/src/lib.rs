//! Adapter for the llama.cpp HTTP server (`llama-server`): its request, stream, health, props and tokenizer in the terms
//! of `adapter-api` (ORCH-3600…3613).
//!
//! Completions go through the native `POST /completion`, chats through `POST /v1/chat/completions`, always streaming: only a
//! streaming request is cancelled reliably when its connection closes. Embeddings and scores have no streaming form. It holds an address and limits, and no state about tasks; whoever submits keeps the requests in
//! flight at or below the engine's slots, because a queued request cannot be told from a stalled one.
//!
//! Facts about the wire come from recorded exchanges (`tests/transcripts/`), which the tests replay byte for byte.

mod adapter;
pub mod decoder;
mod failure;
mod frame;
mod pooled;
mod probe;
mod request;
mod stream;
mod whole;

pub use adapter::LlamaCpp;
