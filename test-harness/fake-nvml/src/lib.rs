//! A shared library that looks like NVIDIA's NVML to whoever loads it, driven by a JSON file.
//!
//! `libfake_nvml.so` exports the symbols that `nvml-wrapper` 0.13 resolves for what this project
//! reads. Environment variable `FAKE_NVML_FILE` names the file (see [`spec`]); it is read again
//! whenever it changes, so a test can move memory, add processes, fail or hang a call, or lose a
//! GPU while a program runs. Without the variable every program sees "driver not loaded".
//!
//! The crate is also an rlib, for the types of the file only. It may touch: that one file, the folder of [`residents`] beside
//! it, stderr.

mod calls_device;
mod calls_events;
mod calls_system;
mod driver;
mod event_sets;
mod ffi;
pub mod residents;
pub mod spec;
mod status;

pub use status::Status;
