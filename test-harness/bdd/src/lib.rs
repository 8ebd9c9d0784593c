//! What the scenario suite needs beside its steps. Pure.

mod libtest;
mod narration;

pub use libtest::Libtest;
pub use narration::Coverage;
