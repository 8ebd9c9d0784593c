//! The test harness: a scripted engine (a real HTTP server in the llama.cpp dialect), control of the
//! fake NVML library, a server of files with faults, a launcher for real daemons, a strict reader of our streams, a tiny model file
//! writer and the real llama.cpp server. Suites, the demo and the benchmark are built on it.
//!
//! It links no daemon: it starts them as processes and speaks HTTP to them. It may touch: loopback
//! sockets, processes that it started, temporary folders, the workspace's target folder.

pub mod binaries;
pub mod containers;
pub mod daemon;
pub mod fake_nvml;
pub mod faulty_disk;
pub mod file_server;
pub mod gguf;
pub mod http1;
pub mod network;
pub mod object_store;
pub mod processes;
mod python_tool;
pub mod real_engine;
pub mod schemathesis;
pub mod scripted_engine;
pub mod sse;
pub mod stream_check;
pub mod system;
pub mod wait;
