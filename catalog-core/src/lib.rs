//! The catalog of models and engines: what is on this machine, where, with which digests, and whether new work may use it.
//!
//! - [`Catalog`]: the handle. Looking ([`Catalog::exists`], [`Catalog::locate`], lists) writes nothing, not even a folder.
//! - [`layout`]: where everything lies below the cache root; the one place that joins paths.
//! - two indices, `models.json` and `engines.json`, and `usage.json` for measured memory: each replaced as a whole, so a
//!   reader of any process sees one version of it.
//!
//! Owns the indices and removes files below the cache root; fetching them is somebody else's. Time comes in as an argument.
//! No async runtime, no HTTP; calls block on the disk.

mod beneath;
mod catalog;
mod error;
mod index;
pub mod layout;
mod page;
mod remove;
mod sweep;
mod usage;

pub use catalog::{Catalog, Located, Registered};
pub use error::CatalogError;
pub use index::Version;
pub use page::{Filter, Page};
pub use remove::Removed;
pub use sweep::Swept;
