//! Minimal authentication decisions (AUTH-1001…1008), shared by both daemons and the command line.
//!
//! Pure: texts, addresses and digests in, decisions out. No I/O, no clock, no logging, no HTTP
//! types. A token is kept as its SHA-256 and compared in constant time; it is printed nowhere.

mod bind;
mod credential;
mod guard;
mod host;
mod policy;
mod token;

pub use bind::BindRefusal;
pub use credential::{Credential, Malformed, bearer_value};
pub use guard::{Guard, GuardRefusal, Headers, Passed};
pub use host::{HostError, HostRef};
pub use policy::{Caller, Denial, Identity, Need, Outcome, Policy};
pub use token::{Fp6, TokenDigest};
