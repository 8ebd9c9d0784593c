//! Answers as text. Pure functions: no terminal, no clock, no network. Text that comes from elsewhere is cleaned of
//! control characters first; only a task's own output is never touched.

pub(crate) mod artifacts;
pub(crate) mod capabilities;
pub(crate) mod decision;
pub(crate) mod doctor;
pub(crate) mod engine_log;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod join;
pub(crate) mod models;
pub(crate) mod nodes;
pub(crate) mod plan;
pub(crate) mod pools;
pub(crate) mod progress;
mod result;
pub(crate) mod session;
pub(crate) mod table;
pub(crate) mod tasks;
mod text;

#[cfg(test)]
mod samples;
