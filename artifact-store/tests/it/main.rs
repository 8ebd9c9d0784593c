//! The store over real files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod fixtures;

mod damage;
mod leftovers;
mod model;
mod repeats;
mod retention;
