//! The load: streams opened together, requests one after the other, or streams held open. Every stream is checked as
//! it is read. Runs on the one thread of this program; touches sockets.

mod admit;
mod held;
mod job;
mod read;
mod target;
#[cfg(test)]
mod tests;
mod together;

pub(crate) use admit::admissions;
pub(crate) use held::HeldStreams;
pub(crate) use job::{Job, MODEL};
pub(crate) use target::{Dialect, Target};
pub(crate) use together::{Known, one_after_the_other, together};
