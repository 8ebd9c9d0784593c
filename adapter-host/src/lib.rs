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
mod options;
mod registry;
mod replica;
mod stream;

pub use breaker::{BreakerOptions, BreakerState};
pub use endpoint::EndpointSpec;
pub use error::{BindError, HostError};
pub use host::AdapterHost;
pub use options::Options;
pub use registry::{Bound, Target, Unbound};
pub use replica::ReplicaSnapshot;
