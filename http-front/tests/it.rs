//! The front over real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic is a failed test")]

#[path = "it/auth.rs"]
mod auth;
#[path = "it/browser.rs"]
mod browser;
#[path = "it/errors.rs"]
mod errors;
#[path = "it/h2.rs"]
mod h2;
#[path = "it/limits.rs"]
mod limits;
#[path = "it/routes.rs"]
mod routes;
#[path = "it/server.rs"]
mod server;
#[path = "it/signals.rs"]
mod signals;
#[path = "it/stop.rs"]
mod stop;
