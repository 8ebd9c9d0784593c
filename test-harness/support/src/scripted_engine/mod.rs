//! The scripted engine: a real HTTP server that speaks an inference engine's dialect and does what a
//! script says. It never runs a model and says so: the first text of every completion is
//! `[scripted engine: no inference]`.
//!
//! Inside is a pure step function ([`llama_cpp`]'s generation: plan + step → text, or a fault);
//! around it a small HTTP/1.1 shell that controls every byte (cut frames, resets, fragments). A
//! dialect is a sibling of [`llama_cpp`]; the shell, slots, script and report serve all of them.
//!
//! Touches: its listening socket, its script file, stderr.

mod engine;
mod handle;
mod http;
mod launch;
mod llama_cpp;
mod log;
mod process;
mod report;
mod residency;
mod script;
mod server;
mod slots;

pub use handle::{ControlError, EngineControl, ScriptedEngine};
pub use launch::{Action, CommandLineError, Launch, Runtime};
pub use llama_cpp::DISCLAIMER;
pub use process::{SCRIPT_VARIABLE, run};
pub use report::{End, Report, RequestRecord};
pub use script::{EngineError, Fault, FaultKind, Flood, Health, Residency, Script, StartFailure, Text};
