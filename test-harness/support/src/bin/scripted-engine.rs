//! The scripted engine as a program with llama-server's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    test_harness_support::scripted_engine::run(std::env::args().skip(1))
}
