//! Why a host or a binding could not be made.

use api_types::EngineKind;
use http_util::BuildError;

use crate::registry::Target;

/// Why a host could not be made from its options.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// An option cannot work.
    #[error("{field} {rule}")]
    Option {
        /// The option's path below [`Options`](crate::Options).
        field: &'static str,
        /// What it must satisfy.
        rule: &'static str,
    },
    /// The machine cannot make the HTTP client.
    #[error("the HTTP client for engines cannot be made")]
    Client(#[from] BuildError),
    /// The metrics registry holds families of these names already.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Why a replica could not be bound. What was bound before stays.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A newer engine process is bound: the report is late.
    #[error("{target}: generation {given} is older than generation {bound}, which is bound")]
    Stale {
        /// The replica.
        target: Target,
        /// The generation given.
        given: u64,
        /// The generation bound.
        bound: u64,
    },
    /// No adapter speaks this engine's protocol.
    #[error("{target}: no adapter for engine {engine}")]
    UnsupportedEngine {
        /// The replica.
        target: Target,
        /// Its engine.
        engine: EngineKind,
    },
    /// The endpoint's address is no URL.
    #[error("{target}: the endpoint's address is no URL")]
    Url {
        /// The replica.
        target: Target,
        /// What is wrong with it.
        #[source]
        source: url::ParseError,
    },
    /// The endpoint's address or key cannot be used.
    #[error("{target}: the endpoint cannot be used")]
    Endpoint {
        /// The replica.
        target: Target,
        /// What is wrong with it.
        #[source]
        source: BuildError,
    },
}
