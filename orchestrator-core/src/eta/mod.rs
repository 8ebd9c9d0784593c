//! When a task will start and end, from what was measured and from nothing else.
//!
//! [`Measured`] learns from finished runs how fast each pool serves each model (prefill, first
//! token, decode, load; mean and spread) and how long outputs are. [`Forecast`] plays the running
//! tasks, from their progress, and others after them through the slots on paper; [`Board`] does so
//! for the whole queue in order; an [`Outlook`] is what the plays say of one task. [`first_end_ms`] says
//! when a place frees, [`retry_after_ms`] when a refused client is to come back.
//! Whatever was not measured is absent; there is no default duration. Times are ms.

mod arrivals;
mod board;
mod draw;
mod ewma;
mod forecast;
mod lengths;
mod line;
mod model;
mod outlook;
mod play;
mod retry;
mod service;
mod sizes;

pub use board::{Board, Size};
pub use ewma::Ewma;
pub use forecast::{Asked, Forecast, PoolSlots};
pub use model::{Measured, Running};
pub use outlook::{Outlook, outlook_of_running};
pub use retry::{first_end_ms, retry_after_ms};
pub use service::{Demand, Observation, ServiceStats};
