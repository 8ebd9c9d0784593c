//! HTTP towards engines and daemons: the client with its timeouts, retries, stream decoding and redaction
//! (ORCH-3610…3613). It knows HTTP and `text/event-stream`; it knows no engine, no route and no daemon.
//!
//! - [`client`]: the one place that builds HTTP clients. [`Client`] → [`Endpoint`] → [`Reply`] or [`StreamResponse`].
//! - [`sse`]: the one decoder of `text/event-stream`.
//! - [`retry`]: capped, jittered retries of idempotent calls.
//! - [`redact`]: takes credentials out of text that other programs wrote.
//! - [`wait`]: limits on waiting that cost nothing while they are not reached.

pub mod client;
pub mod redact;
pub mod retry;
pub mod sse;
pub mod wait;

mod error;

pub use client::{
    ByteStream, Client, ClientOptions, Endpoint, Reply, Request, ResolveNames, Resolved, StreamResponse,
    retry_after,
};
pub use error::{BuildError, Cause, HttpError, Target};
