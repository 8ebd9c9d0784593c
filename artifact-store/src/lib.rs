//! Artifacts on disk, kept by the digest of their content.
//!
//! Two rooms behind one handle ([`ArtifactStore`]), because they differ in how often and how they are written:
//!
//! - what clients store lies in files of its own, synced before the answer (`blobs`, `meta`);
//! - the traces of tasks, one per task and never changed, lie in an append-only log of segments (`packs`): one
//!   `write(2)` each, so that the end of a task does not wait for the disk.
//!
//! Nothing is served whose bytes do not have the digest that names them. Time comes in as an argument. No async runtime,
//! no HTTP; touches files below its folder only, and joins paths from digests and numbers alone.

mod catalog;
mod error;
mod files;
mod loose;
mod meta;
mod packs;
mod store;

pub use catalog::Filter;
pub use error::{GetError, OpenError, PutError};
pub use meta::{Meta, New, Stamp};
pub use store::{ArtifactStore, Limits, Put, Stored, Swept};
