//! The `llama-orch` command. Everything is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    llama_orch_cli::main()
}
