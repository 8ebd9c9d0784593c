//! The built command as a process of its own, against a server whose answers each test scripts.

mod artifacts;
mod doctor;
mod failures;
mod json;
mod machine;
mod models;
mod node;
mod plan;
mod pools;
mod process;
mod run;
mod server;
mod signals;
mod workloads;
