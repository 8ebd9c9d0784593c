//! Registry of adapters and the facade that the orchestrator calls (ORCH-3620).
//!
//! The host knows which engine process answers for a replica now, and whether it is worth asking: every replica has a
//! circuit breaker, metrics and narration around its calls. It does not know tasks, slots or queues, and it never tries
//! a second replica: whether a failure may be tried elsewhere is told by
//! [`AdapterError::retriable_before_first_token`](adapter_api::AdapterError::retriable_before_first_token), and the
//! orchestrator, which knows the slots, decides.
//!
//! Cancelling is dropping: the future of [`AdapterHost::submit`] before the stream, the stream afterwards.

mod breaker;
mod endpoint;
mod error;
mod host;
mod metrics;
mod registry;
mod replica;
mod stream;

use adapter_api::Timeouts;

pub use breaker::{BreakerOptions, BreakerState};
pub use endpoint::EndpointSpec;
pub use error::{BindError, HostError};
pub use host::AdapterHost;
pub use registry::{Bound, Target, Unbound};
pub use replica::ReplicaSnapshot;

/// Limits of a host. All from the caller: the host has no defaults of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for an engine.
    pub timeouts: Timeouts,
    /// When to stop asking an engine, and for how long.
    pub breaker: BreakerOptions,
}
