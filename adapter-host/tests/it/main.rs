//! The host over real sockets, with scripted engines behind it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected ends the test"
)]

mod binding;
mod breaking;
mod common;
mod watching;
