//! The decisions of llama-orch as pure functions: who waits in which order, which pool takes a
//! task and why, what a task may become, and when it will start and end.
//!
//! Nothing here reads a clock, draws a random number, logs, opens a file or awaits. Time comes in
//! as monotonic milliseconds, jitter and ids as arguments; decisions come out as data that can be
//! stored and replayed. Results never depend on the iteration order of a hash map.

pub mod dispatch;
pub mod eta;
pub mod policy;
pub mod queue;
pub mod rate;
pub mod residency;
pub mod session;
pub mod task;
