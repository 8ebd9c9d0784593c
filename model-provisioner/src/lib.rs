//! Models by reference: `hf:`, `https:`, `s3:`, `oci:`, `file:`, relative paths. Plan, then execute exactly that.
//!
//! - [`Provisioner::plan`] asks the source what there is, pins it (commit, digest, validator), chooses the files, and holds
//!   their sizes against the disk. It writes nothing. The [`Plan`] can be shown.
//! - [`Provisioner::execute`] downloads what is not here yet, verifies, publishes, reads the headers, and registers the
//!   model as `Active`. Whatever fails before that leaves nothing that the catalog shows.
//! - [`Provisioner::verify`] reads a model's files again.
//! - [`Settings`], and [`configured`] for what the configuration and the environment say.
//!
//! Touches the network through `downloader` only, and the cache root through `catalog-core`'s layout. Starts no engine.

mod choose;
mod configured;
mod entry;
mod environment;
mod error;
mod execute;
mod identity;
mod meter;
mod naming;
mod plan;
mod publish;
mod settings;
mod sources;
mod space;
mod verify;

pub use configured::{Configured, configured};
pub use environment::{HubEnvironment, hub_environment};
pub use error::ProvisionError;
pub use execute::Provisioner;
pub use meter::{Notice, Progress, Reporter, Unreported};
pub use plan::{Place, Plan, PlannedFile};
pub use settings::{HubSettings, RegistryLogin, S3Settings, Settings};
pub use verify::{Finding, Verification, VerifiedFile};
