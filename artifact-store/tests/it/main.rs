//! The store over real files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixtures;

mod damage;
mod leftovers;
mod model;
mod repeats;
mod retention;
