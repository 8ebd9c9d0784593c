//! The adapter over real sockets: against recorded answers of llama.cpp, byte for byte, and against the scripted engine.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: what is not as expected ends the test"
)]

mod common;
mod engine;
mod fragments;
mod recorded;
mod replay;
mod transcript;
mod workloads;
