//! The built command as a process of its own, against a server whose answers each test scripts.

mod artifacts;
mod failures;
mod json;
mod node;
mod pools;
mod process;
mod run;
mod server;
mod signals;
mod workloads;
