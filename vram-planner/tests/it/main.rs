//! The planner against loads that were measured, and against itself.
#![cfg(test)]

mod estimates;
mod fixtures;
mod needs;
mod plans;
