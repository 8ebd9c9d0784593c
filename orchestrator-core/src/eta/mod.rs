//! When a task will start and end, from what was measured and from nothing else.
//!
//! [`ServiceTimes`] learns from finished runs how fast each pool serves each model.
//! [`ServiceStats::expected`] turns that into the expected duration of one task, [`predict`] lets
//! the tasks ahead run through the slots on paper, [`retry_after_ms`] says when a place frees.
//! Whatever was not measured is absent; there is no default duration. Times are ms.

mod ewma;
mod forecast;
mod service;

pub use ewma::Ewma;
pub use forecast::{Estimate, Running, Slot, predict, retry_after_ms};
pub use service::{Demand, Expected, Observation, ServiceStats, ServiceTimes};
