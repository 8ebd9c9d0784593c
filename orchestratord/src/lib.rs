//! The orchestrator daemon: admits tasks, queues them, places them on pools and streams tokens.
//!
//! ```text
//! api (thin handlers) → dispatcher (one actor over the pure core) → runner (one per running task)
//!                          └── task_log (encoded frames) ←───────────────┘
//! ```

pub mod api;
pub mod app;
pub mod args;
pub mod artifacts;
pub mod continuation;
pub mod device_gauges;
pub mod dispatcher;
pub mod engine_log;
pub mod jitter;
pub mod metrics;
pub mod model_gauges;
pub mod node_check;
pub mod options;
pub mod pause;
pub mod queue_gauges;
pub mod rate;
pub mod receipt;
pub mod runner;
pub mod signals;
pub mod state;
pub mod story;
pub mod task_log;
pub mod trace;
