//! The journal against a plain model, over simulated power cuts, and over damaged files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cut_disk;
mod damage;
mod fixtures;
mod model;
mod power_cuts;
mod transcripts;
mod writer;
