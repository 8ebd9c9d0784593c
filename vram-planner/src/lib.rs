//! Whether a model fits on a GPU, with how much context and how many slots, beside what is loaded and what others use; and
//! if not, why, in numbers.
//!
//! Pure: no clock, files, logging or randomness. The same question has the same answer.
//!
//! - [`estimate`]: what a load takes, from the header's facts: weights, cache, state, compute buffers.
//! - [`need`]: the estimate with an allowance, or what was measured of the same load or of its relatives.
//! - [`plan`]: the need held against devices.
//!
//! All sizes are bytes. Sums saturate: a header that claims the impossible never fits.

mod cache;
mod estimate;
mod need;
mod place;
mod text;

pub use estimate::{Estimate, EstimateError, Load, estimate};
pub use need::{Allowance, Basis, Need, need};
pub use place::{Device, Loaded, Plan, Request, Verdict, plan};
pub use text::gib;
