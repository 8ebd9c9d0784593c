//! One engine process: its command line, its process group or container, its output, its health and how it ended.
//! Knows llama.cpp's server; knows nothing of pools, restarts or the orchestrator.

pub mod command;
pub mod container;
pub mod ending;
pub mod launcher;
pub mod listener;
pub mod output;
pub mod probe;
pub mod process;
pub mod shim;

mod lines;
