//! Typed client of the daemons' HTTP contract: [`OrchestratorClient`] for people, programs and the node link,
//! [`NodeClient`] for what the orchestrator asks a node's pool-managerd.
//!
//! Owns the routes, the mapping of every failure to [`ClientError`], and the resume of a broken stream. It opens no
//! socket by itself (`http-util` does), reads no environment and no file, and never prints a token.

mod api;
mod artifacts;
mod config;
mod error;
mod headers;
mod node;
mod orchestrator;
mod pools;
mod stream;

pub use artifacts::StoredArtifact;
pub use config::{ClientConfig, ResumePolicy, Timeouts};
pub use error::{ApiError, ClientError, Peer, ProtocolFault};
pub use headers::Budgets;
pub use node::{MAX_ENGINE_LOG_WAIT, NodeClient};
pub use orchestrator::{OrchestratorClient, Submitted};
pub use stream::StreamItem;
