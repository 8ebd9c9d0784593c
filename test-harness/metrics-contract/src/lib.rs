//! Reads a scrape and compares it with the metrics contract. Pure: text in, violations out.

pub mod exposition;
pub mod lint;
