//! Downloads of large files: guarded against being led into private networks, verified while they stream, resumed where
//! they broke off.
//!
//! - [`Policy`] → [`Guard`]: what may be connected to. Every hop of every request is checked, and a connection goes to the
//!   address that was checked.
//! - [`Transport`]: GET with redirects; a credential does not leave the origin it belongs to.
//! - [`Downloader`]: one file into one folder, in parts, by any number of tries.
//!
//! Touches the network as far as the policy lets it, and the folder that it is given. What is in that folder is not the file
//! until [`Downloader::download`] says so.

mod address;
mod download;
mod error;
mod guard;
mod hasher;
mod intervals;
mod observe;
mod partial;
mod policy;
mod range;
mod segment;
mod transport;

pub use address::is_public;
pub use download::{Complete, Downloader, Effort, Probe, Wanted};
pub use error::{Blocked, FetchError};
pub use guard::Guard;
pub use observe::{Event, Observer, Unobserved};
pub use policy::{Downloads, HostPattern, Policy, PolicyError, PrivateOrigin};
pub use segment::Origin;
pub use transport::{Answer, Ask, Credential, Timeouts, Transport};
