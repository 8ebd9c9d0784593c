//! The steps, one module per topic. A step acts and asserts; waiting and reading are `crate::world`'s.

mod answer;
mod artifacts;
mod authentication;
mod cancel;
mod end_of_stream;
mod engine;
mod gpu_box;
mod node_link;
mod placement;
mod queue;
mod reload;
mod restart;
mod resume;
mod session;
mod silent_box;
mod submit;
mod unready;
mod workloads;
