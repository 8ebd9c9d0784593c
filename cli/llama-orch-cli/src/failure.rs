//! Why a command could not do its work, and the exit that stands for it.

use std::io;
use std::path::PathBuf;

use api_types::{FieldError, NodeId, PoolId};
use catalog_core::CatalogError;
use config_schema::ConfigErrors;
use downloader::FetchError;
use llama_orch_client::ClientError;
use model_files::ReadError;
use model_provisioner::ProvisionError;
use vram_planner::EstimateError;

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
    /// A model that was not fetched or not verified.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The catalog of this machine.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{model} is neither in the catalog of this machine nor the path of a model")]
    NoModel { model: String },
    #[error("{} is no model that can be used", path.display())]
    Model {
        path: PathBuf,
        #[source]
        source: ReadError,
    },
    /// A load of which nothing can be said.
    #[error(transparent)]
    Estimate(#[from] EstimateError),
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

    /// What a person can do about a failure on this machine; the orchestrator's bring their own.
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Provision(ProvisionError::Fetch(FetchError::Blocked(_))) => Some(
                "what may be fetched from where is said by catalog.downloads, catalog.allowed_hosts and \
                 catalog.private_origins in the configuration",
            ),
            Self::Provision(ProvisionError::Fetch(FetchError::Stopped)) => {
                Some("what came is kept: the same command goes on from there")
            }
            Self::Provision(ProvisionError::NotFetchable { .. })
            | Self::NoModel { .. }
            | Self::Catalog(CatalogError::Unknown { .. })
            | Self::Provision(ProvisionError::Catalog(CatalogError::Unknown { .. })) => Some(
                "`llama-orch models list` shows the catalog, `llama-orch models pull` and `models add` fill it",
            ),
            _ => None,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => Exit::of_client(error),
            Self::Config(_) | Self::Request(_) | Self::Join(_) => Exit::Usage,
            Self::NodeTaken { .. } | Self::NoModel { .. } | Self::Model { .. } | Self::Estimate(_) => {
                Exit::Refused
            }
            Self::Provision(error) => Exit::of_provision(error),
            Self::Catalog(error) => Exit::of_catalog(error),
            Self::Superseded(_) => Exit::TaskFailed,
            Self::Io { .. } => Exit::Io,
            Self::OutputClosed => Exit::Success,
        }
    }
}
