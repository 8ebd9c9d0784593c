//! Why a command could not do its work, and the exit that stands for it.

use std::io;

use api_types::{FieldError, NodeId, PoolId};
use config_schema::ConfigErrors;
use llama_orch_client::ClientError;

use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The request breaks a rule that needs no daemon to be checked.
    #[error("the request is not usable")]
    Request(#[from] FieldError),
    /// A node could not run as it is to be configured.
    #[error("{0}")]
    Join(&'static str),
    #[error("a node {node} is there and alive at {address}; give this one another --node-id")]
    NodeTaken { node: NodeId, address: String },
    /// What a command waited for has been overtaken.
    #[error("another operation on {0} has followed; how this one ended is not known")]
    Superseded(PoolId),
    #[error("{what} failed")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// Whoever read the output went away: no reason to complain, and nobody to complain to.
    #[error("nobody reads the output")]
    OutputClosed,
}

impl Failure {
    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io { what, source }
    }

    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::io("writing to stdout", error),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => Exit::of_client(error),
            Self::Config(_) | Self::Request(_) | Self::Join(_) => Exit::Usage,
            Self::NodeTaken { .. } => Exit::Refused,
            Self::Superseded(_) => Exit::TaskFailed,
            Self::Io { .. } => Exit::Io,
            Self::OutputClosed => Exit::Success,
        }
    }
}
