//! The crate against programs: scripted clients for every fault, and the real Podman and Docker with a real registry.
//!
//! The real ones are Debian's packages, which `cargo xtask test` installs. They need root: Docker's daemon does, and CDI
//! specifications are read from folders of the system only.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fake;
mod faults;
mod preflight;
mod real;
mod scenarios;
