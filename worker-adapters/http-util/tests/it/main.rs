//! Integration tests over real sockets, and property tests of the pure parts.

mod client;
mod limits;
mod redact;
mod reference;
mod retry;
mod server;
mod sse;
mod status;
